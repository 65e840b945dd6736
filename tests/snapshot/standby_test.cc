// Sessions that are all but restored: CRIU waits, and the first request lets it go on.
#include <doctest/doctest.h>
#include <signal.h>

#include "isolate/sys/file.h"
#include "tests/snapshot/support.h"

using namespace tests;
using nlohmann::json;

namespace {

// Counts what it is asked.
const Args kEcho{"sh", "-c", "n=0; while read line; do n=$((n+1)); echo $n $line; done"};

struct Waiting {
  Twins twins{kEcho, {"-i"}};
  std::string prefix = fresh_id();
  Waiting() {
    REQUIRE(twins.snapshot().code == 0);
  }
  ~Waiting() {
    for (int i = 1; i <= 3; ++i) runner({"rm", "-f", id(i)});
  }
  std::string id(int i) const { return prefix + "-" + std::to_string(i); }
  Ran begin(int count) const {
    return runner({"standby", twins.shot.name, "-n", std::to_string(count), "--name", prefix}, {.timeout_ms = 20'000});
  }
};

std::string status_of(const std::string& id) {
  Ran ran = runner({"inspect", id});
  return ran.code == 0 ? json::parse(ran.out).at(0).value("status", "") : "";
}

}  // namespace

TEST_SUITE("standby") {
  TEST_CASE("it says so, and goes on at the first request, whatever that is") {
    SKIP_UNLESS(is_root(), "root");
    Waiting w;
    Ran begun = w.begin(3);
    REQUIRE_MESSAGE(begun.code == 0, begun.err);
    CHECK(begun.out == w.id(1) + "\n" + w.id(2) + "\n" + w.id(3) + "\n");
    for (int i = 1; i <= 3; ++i) CHECK(status_of(w.id(i)) == "standby");
    CHECK(runner({"ls"}).out.find("\"id\":\"" + w.id(1) + "\",\"status\":\"standby\"") != std::string::npos);

    Live attached(runner_argv({"attach", w.id(1)}));
    attached.send("word\n");
    CHECK(attached.await("1 word"));
    CHECK(runner({"exec", w.id(2), "--", "cat", "/etc/hostname"}).out == w.id(2) + "\n");
    CHECK(runner({"wake", w.id(3)}).code == 0);
    for (int i = 1; i <= 3; ++i) CHECK(status_of(w.id(i)) == "running");

    Events log = events_of(runner({"logs", w.id(2)}).out);
    auto restored = find(log, "session.restored");
    REQUIRE(restored);
    CHECK((*restored)["data"]["kind"] == "fork");
    CHECK((*restored)["data"]["phases"].contains("ahead"));
    CHECK(runner({"logs", "--verify", w.id(2)}).code == 0);
  }

  TEST_CASE("stopped before anybody wanted it, nothing is left") {
    SKIP_UNLESS(is_root(), "root");
    Waiting w;
    REQUIRE(w.begin(2).code == 0);
    CHECK(runner({"snapshot", "rm", w.twins.shot.name}).err.find(w.id(1)) != std::string::npos);
    CHECK(runner({"stop", w.id(1)}).code == 0);
    CHECK(runner({"rm", "-f", w.id(2)}).code == 0);
    for (int i = 1; i <= 2; ++i) CHECK(remains_of(w.id(i)) == "");
    CHECK(eventually([&] { return processes_with(w.prefix).empty(); }));  // who waits for its supervisor waits for its words only
  }

  TEST_CASE("its CRIU or its supervisor dies: nothing is left, and the request says so") {
    SKIP_UNLESS(is_root(), "root");
    Waiting w;
    REQUIRE(w.begin(2).code == 0);
    auto supervisor_of = [&](int i) {
      for (pid_t pid : processes_with(w.id(i))) return pid;
      return 0;
    };
    json state = json::parse(runner({"state", w.id(1)}).out);
    REQUIRE(::kill(state["pid"].get<pid_t>(), SIGKILL) == 0);
    CHECK(eventually([&] { return remains_of(w.id(1)) == ""; }));
    Ran gone = runner({"exec", w.id(1), "--", "true"});
    CHECK(gone.code != 0);

    pid_t supervisor = supervisor_of(2);
    REQUIRE(supervisor > 0);
    REQUIRE(::kill(supervisor, SIGKILL) == 0);
    CHECK(eventually([&] { return runner({"ls"}).code == 0 && remains_of(w.id(2)) == ""; }));
  }

  TEST_CASE("a restore that waits in the foreground is refused, and a number that is none") {
    SKIP_UNLESS(is_root(), "root");
    Ran ran = runner({"restore", "--standby", "--from", "x", "y"});
    CHECK(ran.code == 125);
    CHECK(ran.err.find("add -d") != std::string::npos);
    for (const char* verb : {"fork", "standby"})
      for (const char* count : {"0", "1001", "x", "-1"}) {
        Ran many = runner({verb, "x", "-n", count});
        CHECK(many.code == 125);
        CHECK(many.err.find(std::string(verb) + ": -n is a number from 1 to 1000, not '" + count + "'") != std::string::npos);
      }
  }
}
