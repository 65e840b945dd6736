// logs: from a place on, and as they come.
#include <doctest/doctest.h>
#include <signal.h>
#include <unistd.h>

#include <chrono>
#include <fstream>
#include <sstream>

#include "tests/kernel/live.h"

using namespace tests;
using nlohmann::json;

namespace {

std::string log_of(const Box& box) { return data_dir() + "/sessions/" + box.id + "/events.ndjson"; }

std::vector<std::string> lines_of(const std::string& text) {
  std::vector<std::string> lines;
  std::istringstream stream(text);
  for (std::string line; std::getline(stream, line);) lines.push_back(line + "\n");
  return lines;
}

std::string joined(const std::vector<std::string>& lines, std::size_t from) {
  std::string text;
  for (std::size_t i = from; i < lines.size(); ++i) text += lines[i];
  return text;
}

void leave(const Box& box, const Args& command, const Args& flags = {}) {
  Args all{"-d"};
  all.insert(all.end(), flags.begin(), flags.end());
  if (Ran ran = runner(session_arguments(box.id, all, command), {.timeout_ms = 10'000}); ran.code) throw std::runtime_error(ran.err);
}

// Jiffies of user and system time: proc(5), fields 14 and 15.
long cpu_ticks(pid_t pid) {
  std::string stat = read("/proc/" + std::to_string(pid) + "/stat");
  std::istringstream rest(stat.substr(stat.rfind(')') + 2));
  std::string word;
  long ticks = 0;
  for (int n = 3; rest >> word; ++n)
    if (n == 14 || n == 15) ticks += std::stol(word);
  return ticks;
}

}  // namespace

TEST_SUITE("session logs") {
  TEST_CASE("--since and -n begin where they say, with lines longer than a chunk in between") {
    SKIP_UNLESS(is_root(), "root");
    Box box;
    REQUIRE(runner(session_arguments(box.id, {}, {"sh", "-c", "i=0; while [ $i -lt 8 ]; do head -c 200000 /dev/zero | tr '\\0' x; echo; i=$((i+1)); done"})).code == 0);
    std::vector<std::string> lines = lines_of(read(log_of(box)));
    REQUIRE(lines.size() > 10);
    auto logs = [&](const Args& flags) {
      Args arguments{"logs"};
      arguments.insert(arguments.end(), flags.begin(), flags.end());
      arguments.push_back(box.id);
      return runner(arguments).out;
    };
    for (std::size_t n : {0u, 1u, 2u, 7u, 100'000u}) {
      CAPTURE(n);
      CHECK(logs({"-n", std::to_string(n)}) == joined(lines, n > lines.size() ? 0 : lines.size() - n));
      CHECK(logs({"--since", std::to_string(n)}) == joined(lines, std::min<std::size_t>(n, lines.size())));
    }
    CHECK(logs({"--since", "00000000000002"}) == joined(lines, 2));  // as the events write it
    CHECK(logs({"--since", "2", "-n", "1"}) == lines.back());
    CHECK(logs({"-f"}) == joined(lines, 0));
    CHECK(logs({"-f", "-n", "0"}) == "");
    CHECK(runner({"logs", "-f", "-n", "0", box.id}).code == 0);
  }

  TEST_CASE("-f prints each event when it comes, sleeps in between, and ends with session.ended") {
    SKIP_UNLESS(is_root(), "root");
    Box box;
    leave(box, {"sh", "-c", "echo one; while [ ! -e /tmp/go ]; do sleep 0.05; done; echo two; sleep 0.2; exit 3"});
    Live follower(runner_argv({"logs", "-f", box.id}));
    REQUIRE(follower.await("one\\n"));
    CHECK(follower.wait(500) == -1);
    long before = cpu_ticks(follower.pid());
    CHECK(follower.wait(500) == -1);
    CHECK(cpu_ticks(follower.pid()) - before <= 1);
    REQUIRE(runner({"exec", box.id, "touch", "/tmp/go"}).code == 0);
    CHECK(follower.await("two\\n", 5000));
    CHECK(follower.wait(5000) == 0);
    CHECK(follower.out == read(log_of(box)));
    CHECK(ended(events_of(follower.out))["exit"] == 3);
    CHECK(follower.err == "");
  }

  TEST_CASE("two followers of 20,000 lines lose none, and one that comes later goes on where another stopped") {
    SKIP_UNLESS(is_root(), "root");
    Box box;
    leave(box, {"sh", "-c", "i=0; while [ $i -lt 20000 ]; do echo $i; i=$((i+1)); done; sleep 0.1"});
    Live a(runner_argv({"logs", "-f", box.id})), b(runner_argv({"logs", "-f", "--since", "3", box.id}));
    CHECK(a.wait() == 0);
    CHECK(b.wait() == 0);
    std::string whole = read(log_of(box));
    CHECK(a.out == whole);
    CHECK(b.out == joined(lines_of(whole), 3));
  }

  TEST_CASE("-f of a --rm session gets its last event too") {
    SKIP_UNLESS(is_root(), "root");
    Box box;
    leave(box, {"/probe", "await-signal", "5"}, {"--rm"});
    Live follower(runner_argv({"logs", "-f", box.id}));
    REQUIRE(follower.await("ready="));
    REQUIRE(runner({"stop", box.id}).code == 0);
    CHECK(follower.wait(5000) == 0);
    CHECK(ended(events_of(follower.out))["exit"] == 5);
  }

  TEST_CASE("-f says so when the supervisor was killed, and leaves when nobody reads any more") {
    SKIP_UNLESS(is_root(), "root");
    Box box;
    Live live(runner_argv(session_arguments(box.id, {}, {"/probe", "sleep", "60"})));
    REQUIRE(live.await("ready="));
    Ran head = run({"sh", "-c", "\"$@\" | head -n 1", "sh", runner_path(), "--root", run_root(), "logs", "-f", box.id}, {.timeout_ms = 5000});
    CHECK(head.code == 0);
    CHECK(head.out.find("session.started") != std::string::npos);
    Live follower(runner_argv({"logs", "-f", box.id}));
    REQUIRE(follower.await("ready="));
    live.signal(SIGKILL);
    CHECK(follower.wait(5000) == 1);
    CHECK(follower.err.find("its supervisor died") != std::string::npos);
    CHECK(follower.out == read(log_of(box)));
  }

  TEST_CASE("a line that is half written is not printed") {
    SKIP_UNLESS(is_root(), "root");
    Box box;
    REQUIRE(runner(session_arguments(box.id, {}, {"/probe", "exit", "0"})).code == 0);
    std::string whole = read(log_of(box));
    std::ofstream(log_of(box), std::ios::app) << "{\"specversion\":";
    CHECK(runner({"logs", box.id}).out == whole);
    CHECK(runner({"logs", "-n", "1", box.id}).out == lines_of(whole).back());
  }

  TEST_CASE("logs says what is wrong with an id or a flag") {
    SKIP_UNLESS(is_root(), "root");
    Box box, container, quiet;
    leave(box, {"/probe", "sleep", "60"});
    Bundle bundle({"sleep", "60"});
    REQUIRE(create(bundle, container).code == 0);
    Live live(runner_argv(session_arguments(quiet.id, {"--rm"}, {"/probe", "sleep", "60"})));
    REQUIRE(live.await("ready="));
    auto refused = [&](const Args& arguments, const std::string& why) {
      CAPTURE(why);
      Args all{"logs"};
      all.insert(all.end(), arguments.begin(), arguments.end());
      Ran ran = runner(all);
      CHECK(ran.code == 1);
      CHECK(ran.out == "");
      CHECK(ran.err.find(why) != std::string::npos);
    };
    refused({"no-such"}, "there is no session no-such");
    refused({container.id}, "is a container, not a session");
    refused({quiet.id}, "keeps no log");
    refused({"--since", "x", box.id}, "--since: must be a number");
    refused({"-n", "-3", box.id}, "--tail: must be a number");
    refused({"--verify", "-f", box.id}, "--verify takes the whole log");
    refused({}, "ID is missing");
  }
}
