// Eating: the limit holds within its margin, the host answers meanwhile, the last event names it, and nothing is left.
#include <doctest/doctest.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/security/support.h"

using namespace security;
using nlohmann::json;

namespace {

struct Eaten {
  std::string id = tests::fresh_id();
  tests::Events events;
  json end;
  Facts facts;
  int code = -1;
  std::int64_t ms = 0, slowest = 0;  // of the whole; of a small program on the host meanwhile
  std::uintmax_t size = 0;           // of the event stream

  std::optional<json> limit(const std::string& word) const {
    for (const json& event : events)
      if (event["type"] == "limit.reached" && event["data"]["limit"] == word) return event["data"];
    return std::nullopt;
  }
};

Eaten eat(const Args& flags, const Args& words, int timeout_ms = 20'000) {
  Eaten eaten;
  std::int64_t began = now_ms();
  Background runner(concat({tests::runner_path(), "--root", tests::run_root()},
                           session(concat({"--name", eaten.id}, flags), concat({"/attack"}, words))));
  // Asked of the host while the sandbox eats.
  while (runner.wait(50) == -1 && now_ms() - began < timeout_ms) {
    std::int64_t asked = now_ms();
    tests::run({"/bin/true"});
    eaten.slowest = std::max(eaten.slowest, now_ms() - asked);
  }
  eaten.code = runner.wait(0);
  eaten.ms = now_ms() - began;
  REQUIRE_MESSAGE(eaten.code != -1, "it goes on");
  std::string out = runner.out();
  eaten.size = out.size();
  eaten.events = tests::events_of(out);
  eaten.end = tests::ended(eaten.events);
  eaten.facts = facts_of({0, tests::stdio_text(eaten.events), runner.err()});
  CHECK(eaten.slowest < 1000);
  CHECK(remains_of(eaten.id) == "");
  return eaten;
}

bool limits_processes() { return tests::has_controller("pids"); }
bool limits_memory() { return tests::has_controller("memory"); }

}  // namespace

TEST_SUITE("resources") {
  TEST_CASE("control: without appetite a session ends in success") {
    Eaten eaten = eat({}, {"exit", "0"});
    CHECK(eaten.end["result"] == "success");
    CHECK(!eaten.limit("memory"));
    CHECK(!eaten.limit("pids"));
  }

  TEST_CASE("a polite fork bomb meets the limit, and the last event says so") {
    SKIP_UNLESS(limits_processes(), "the pids controller");
    Eaten eaten = eat({"--pids-limit", "64"}, {"bomb"});
    CHECK(eaten.facts["refused"] == "EAGAIN");
    CHECK(std::stoi(eaten.facts["children"]) <= 63);
    CHECK(std::stoi(eaten.facts["children"]) >= 58);
    CHECK(eaten.end["result"] == "pids-limit");
    REQUIRE(eaten.limit("pids"));
    CHECK(eaten.ms < 5000);
  }

  TEST_CASE("a spinning fork bomb is stopped long before the wall limit") {
    SKIP_UNLESS(limits_processes(), "the pids controller");
    Eaten eaten = eat({"--pids-limit", "128", "--timeout", "15s"}, {"spinning-bomb"});
    CHECK(eaten.end["result"] == "pids-limit");
    CHECK(eaten.ms < 6000);
  }

  TEST_CASE("memory of every kind is counted") {
    SKIP_UNLESS(limits_memory(), "the memory controller");
    for (const char* kind : {"anon", "memfd", "shm", "sockets", "pipes"}) {
      CAPTURE(kind);
      Eaten eaten = eat({"--memory", "48M", "--timeout", "8s"}, {"memory", kind, "400"});
      std::uint64_t peak = eaten.end.value("memory_peak", std::uint64_t{0});
      CHECK(peak <= (52u << 20));
      bool small = eaten.facts["megabytes"] != "(missing)" &&
                   std::stol(eaten.facts["megabytes"]) <= 52;  // the kernel's own limit of pipes came first
      bool told = eaten.end["result"] == "oom-kill" || eaten.limit("memory").has_value() || small;
      CHECK_MESSAGE(told, eaten.end.dump());
      CHECK(eaten.ms < 10'000);
    }
    Eaten control = eat({"--memory", "256M"}, {"memory", "anon", "100"});
    CHECK(control.facts["held"] == "anon");
    CHECK(control.end["result"] == "success");
  }

  TEST_CASE("descriptors end at their limit") {
    Eaten eaten = eat({}, {"descriptors"});
    CHECK(eaten.facts["refused"] == "EMFILE");
    CHECK(std::stoi(eaten.facts["made"]) <= 1024);
    CHECK(eaten.end["result"] == "success");
  }

  TEST_CASE("20 000 orphans are reaped") {
    Eaten eaten = eat({"--pids-limit", "64", "--timeout", "30s"}, {"orphans", "20000"}, 30'000);
    CHECK(eaten.facts["orphans"] == "20000");
    CHECK(eaten.end["result"] == "success");
  }

  TEST_CASE("a flood without a newline: 64 MiB are kept, what is more is counted, and the reader's file is bounded") {
    Eaten eaten = eat({"--timeout", "20s"}, {"flood", "1120"}, 25'000);  // 70 MiB
    CHECK(eaten.end["result"] == "success");
    CHECK(eaten.limit("output"));
    std::uint64_t dropped = 0;
    for (const json& event : eaten.events)
      if (event["type"] == "stdio") dropped += event["data"].value("dropped", std::uint64_t{0});
    CHECK(dropped == (6u << 20));
    CHECK(eaten.size < (100u << 20));
  }

  TEST_CASE("a reader that has stopped does not stop the wall limit") {
    std::string id = tests::fresh_id();
    int ends[2];
    REQUIRE(::pipe2(ends, O_CLOEXEC) == 0);
    std::int64_t began = now_ms();
    Background runner(concat({tests::runner_path(), "--root", tests::run_root()},
                             session({"--name", id, "--timeout", "2s"}, {"/attack", "flood"})),
                      {}, ends[1]);
    auto in_cgroup = [&] {
      for (const std::string& mount : cgroup_mounts())
        if (tests::exists(mount + "/runner/" + id)) return true;
      return false;
    };
    REQUIRE(eventually(in_cgroup, 3000));
    CHECK(eventually([&] { return !in_cgroup(); }, 5000));
    CHECK(now_ms() - began < 3500);  // the limit, a second, and the start
    // It has its last words to say, and can be told to keep them to itself.
    if (runner.wait(500) == -1) runner.signal(SIGTERM);
    CHECK(runner.wait(2000) != -1);
    ::close(ends[0]);
    ::close(ends[1]);
    runner.wait(3000);
    CHECK(remains_of(id) == "");
  }

  TEST_CASE("kill(-1) from inside ends the session and nobody else") {
    Background bystander({"sleep", "30"});
    for (const char* user : {"agent", "root"}) {
      Eaten eaten = eat({"-u", user}, {"kill-all"});
      CHECK(eaten.facts["alive"] == "1");
      CHECK(eaten.end["result"] == "success");
    }
    CHECK(alive(bystander.pid()));
  }

  TEST_CASE("a program without standard descriptors is waited for, and its status told") {
    Eaten eaten = eat({}, {"silent", "300"});
    CHECK(eaten.end["result"] == "exit-code");
    CHECK(eaten.code == 5);
    CHECK(eaten.ms >= 300);
  }
}
