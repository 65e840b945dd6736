// run --log-opt: the log of a session that says more than its log may hold.
#include <doctest/doctest.h>
#include <signal.h>

#include <filesystem>

#include "tests/kernel/live.h"

using namespace tests;
using nlohmann::json;
namespace fs = std::filesystem;

namespace {

std::string folder_of(const Box& box) { return data_dir() + "/sessions/" + box.id; }

std::uintmax_t log_bytes(const Box& box) {
  std::uintmax_t bytes = 0;
  for (const auto& each : fs::directory_iterator(folder_of(box))) {
    std::error_code gone;  // rotated away between the two calls
    std::uintmax_t size = each.path().filename().string().starts_with("events.ndjson") ? each.file_size(gone) : 0;
    if (!gone) bytes += size;
  }
  return bytes;
}

std::uint64_t sequence(const json& event) { return std::stoull(event["sequence"].get<std::string>()); }

// Lines with numbers, in bursts that a reader can follow.
std::string counting(int lines) {
  return "pad=$(printf %0400d 0); i=0; while [ $i -lt " + std::to_string(lines) + " ]; do i=$((i+1)); echo line $i; echo $pad; "
         "[ $((i%50)) = 0 ] && sleep 0.05; done; true";
}

constexpr std::uintmax_t kFile = 64 << 10;
const Args kSmall{"--log-opt", "max-size=64k", "--log-opt", "max-file=4"};

}  // namespace

TEST_SUITE("session log rotation") {
  TEST_CASE("the oldest events go, the rest is there and verifies, and a follower from the beginning has them all") {
    SKIP_UNLESS(is_root(), "root");
    Box box;
    Args flags{"-d"};
    flags.insert(flags.end(), kSmall.begin(), kSmall.end());
    std::string program = "while [ ! -e /tmp/go ]; do sleep 0.05; done; " + counting(3000);
    REQUIRE(runner(session_arguments(box.id, flags, {"sh", "-c", program}), {.timeout_ms = 10'000}).code == 0);
    Live follower(runner_argv({"logs", "-f", box.id})), waiter(runner_argv({"wait", "--log", "^line 2999$", box.id}));
    REQUIRE(follower.await("process.started"));
    REQUIRE(runner({"exec", box.id, "touch", "/tmp/go"}).code == 0);
    std::uintmax_t most = 0;
    for (int status = -1; status == -1; status = follower.wait(20)) {
      most = std::max(most, log_bytes(box));
      CHECK(runner({"logs", "--verify", box.id}).err == "");
    }
    CHECK(follower.wait() == 0);
    CHECK(follower.err == "");
    CHECK(waiter.wait(5000) == 0);
    CHECK(most > 3 * kFile);
    CHECK(most < 4 * kFile + 1024);

    Events all = events_of(follower.out);
    for (std::size_t i = 0; i < all.size(); ++i) REQUIRE(sequence(all[i]) == i + 1);
    std::string text = stdio_text(all);
    for (int i = 1; i <= 3000; ++i) REQUIRE(text.find("line " + std::to_string(i) + "\n") != std::string::npos);

    Events kept = events_of(runner({"logs", box.id}).out);
    CHECK(sequence(kept.front()) > 20);
    CHECK((Events(all.end() - static_cast<std::ptrdiff_t>(kept.size()), all.end()) == kept));
    CHECK((events_of(runner({"logs", "--since", "5", box.id}).out) == kept));
    CHECK((events_of(runner({"logs", "-n", "10", box.id}).out) == Events(all.end() - 10, all.end())));
    CHECK(runner({"logs", "--verify", box.id}).out.find(std::to_string(sequence(kept.front()) - 1) + " before them were rotated away") != std::string::npos);
    json log = json::parse(runner({"inspect", box.id}).out)[0]["log"];
    CHECK(log["files"] == 4);
    CHECK(log["bytes"].get<std::uintmax_t>() <= 4 * kFile);

    for (const auto& each : fs::directory_iterator(folder_of(box)))
      if (each.path().filename().string().starts_with("events.ndjson.000")) {
        fs::remove(each.path());
        break;
      }
    CHECK(runner({"logs", "--verify", box.id}).code == 1);
  }

  TEST_CASE("a log whose supervisor is killed while it rotates can be read, and says no more than was written") {
    SKIP_UNLESS(is_root(), "root");
    for (int round = 0; round < 4; ++round) {
      Box box;
      Live live(runner_argv(session_arguments(box.id, {"--log-opt", "max-size=16k", "--log-opt", "max-file=2"},
                                              {"sh", "-c", "i=0; while :; do i=$((i+1)); echo line $i; done"})));
      REQUIRE(live.await("line 400" + std::to_string(round)));
      live.signal(SIGKILL);
      live.wait();
      Ran logs = runner({"logs", box.id}), verify = runner({"logs", "--verify", box.id});
      Events events = events_of(logs.out);
      CHECK(logs.code == 0);
      CHECK(!events.empty());
      for (std::size_t i = 1; i < events.size(); ++i) CHECK(sequence(events[i]) == sequence(events[i - 1]) + 1);
      bool uncovered = verify.err.find("is not covered by the head") != std::string::npos;  // killed between a line and its head
      CHECK_MESSAGE((verify.code == 0 || uncovered), verify.err);
      CHECK(runner({"logs", "-f", box.id}).err.find("its supervisor died") != std::string::npos);
    }
  }

  TEST_CASE("options that are none are refused, and the usual log is one file") {
    SKIP_UNLESS(is_root(), "root");
    Box box;
    for (const char* option : {"max-size=1k", "max-size=x", "max-file=0", "max-file=101", "max-age=3", "10m"}) {
      CAPTURE(option);
      Ran ran = runner(session_arguments(box.id, {"--log-opt", option}, {"true"}));
      CHECK(ran.code == 125);
      CHECK(ran.err.find("--log-opt") != std::string::npos);
    }
    for (const Args& flags : {Args{}, Args{"--log-opt", "max-size=-1"}}) {
      Box one;
      REQUIRE(runner(session_arguments(one.id, flags, {"sh", "-c", "head -c 300000 /dev/zero"})).code == 0);
      CHECK(json::parse(runner({"inspect", one.id}).out)[0]["log"]["files"] == 1);
      CHECK(runner({"logs", "--verify", one.id}).out.find("rotated") == std::string::npos);
    }
  }
}
