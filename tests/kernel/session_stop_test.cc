// stop: heeded, not heeded, frozen, several at once, and what is told when it cannot be done.
#include <doctest/doctest.h>
#include <signal.h>

#include <chrono>
#include <thread>

#include "tests/kernel/live.h"

using namespace tests;
using nlohmann::json;

namespace {

// Left running by a caller who has gone, with its program ready.
struct Speaking : Away {
  explicit Speaking(const Args& command, const Args& flags = {}) : Away(flags, command) {
    std::string log = data_dir() + "/sessions/" + box.id + "/events.ndjson";
    if (!eventually([&] { return read(log).find("ready=") != std::string::npos; })) throw std::runtime_error("the program is not ready");
  }
  json inspect() const {
    Ran ran = runner({"inspect", box.id});
    return ran.code == 0 ? json::parse(ran.out).at(0) : json();
  }
};

struct Timed {
  Ran ran;
  long ms;
};

Timed timed(const Args& arguments) {
  auto start = std::chrono::steady_clock::now();
  Ran ran = runner(arguments);
  return {ran, std::chrono::duration_cast<std::chrono::milliseconds>(std::chrono::steady_clock::now() - start).count()};
}

}  // namespace

TEST_SUITE("session stop") {
  TEST_CASE("a program that heeds SIGTERM ends with its own status, and its end is written when stop returns") {
    SKIP_UNLESS(is_root(), "root");
    Speaking s({"/probe", "await-signal", "21"});
    Timed t = timed({"stop", s.box.id});
    CHECK(t.ran.code == 0);
    CHECK(t.ran.out == s.box.id + "\n");
    CHECK(t.ms < 5000);
    json one = s.inspect();
    CHECK(one["status"] == "stopped");
    CHECK(one["exit_code"] == 21);
    CHECK(one["finished"].is_string());
    CHECK(runner({"stop", s.box.id}).code == 0);  // as docker has it
    CHECK(runner({"rm", s.box.id}).code == 0);    // at once: its supervisor has let go of it
    CHECK(remains_of(s.box.id) == "");
  }

  TEST_CASE("a program that ignores SIGTERM is killed when the time is over, and all that it started") {
    SKIP_UNLESS(is_root(), "root");
    Speaking s({"sh", "-c", "sleep 75.5 & exec /probe ignore-term 60"});
    Timed t = timed({"stop", "-t", "1", s.box.id});
    CHECK(t.ran.code == 0);
    CHECK(t.ms >= 1000);
    CHECK(t.ms < 6000);
    CHECK(s.inspect()["exit_code"] == 137);
    CHECK(processes_with("75.5").empty());
    CHECK(remains_of(s.box.id).find("cgroup") == std::string::npos);
  }

  TEST_CASE("-s chooses the signal") {
    SKIP_UNLESS(is_root(), "root");
    Speaking s({"/probe", "await-signal", "22"});
    CHECK(runner({"stop", "-s", "USR1", s.box.id}).code == 0);
    CHECK(s.inspect()["exit_code"] == 22);
    CHECK(runner({"logs", s.box.id}).out.find("signal=10") != std::string::npos);
    Speaking killed({"/probe", "await-signal", "22"});
    CHECK(runner({"stop", "-s", "KILL", killed.box.id}).code == 0);
    CHECK(killed.inspect()["exit_code"] == 137);
  }

  TEST_CASE("a paused session is thawed, so that its program can heed the signal") {
    SKIP_UNLESS(is_root(), "root");
    Speaking s({"/probe", "await-signal", "23"});
    REQUIRE(runner({"pause", s.box.id}).code == 0);
    Timed t = timed({"stop", s.box.id});
    CHECK(t.ran.code == 0);
    CHECK(t.ms < 5000);
    CHECK(s.inspect()["exit_code"] == 23);
  }

  TEST_CASE("--rm sessions are gone when stop returns") {
    SKIP_UNLESS(is_root(), "root");
    Speaking s({"/probe", "sleep", "60"}, {"--rm"});
    CHECK(runner({"stop", s.box.id}).code == 0);
    CHECK(remains_of(s.box.id) == "");
  }

  TEST_CASE("several have the same time, and one that is not there does not keep the others alive") {
    SKIP_UNLESS(is_root(), "root");
    Speaking a({"/probe", "ignore-term", "60"}), b({"/probe", "ignore-term", "60"}), c({"/probe", "await-signal", "24"});
    Timed t = timed({"stop", "-t", "1", a.box.id, "no-such", b.box.id, c.box.id});
    CHECK(t.ran.code == 125);
    CHECK(t.ran.err.find("there is no session no-such") != std::string::npos);
    CHECK(t.ran.out == a.box.id + "\n" + b.box.id + "\n" + c.box.id + "\n");
    CHECK(t.ms < 6000);
    CHECK(c.inspect()["exit_code"] == 24);
  }

  TEST_CASE("stop returns when the reader of a foreground session's events does not read, and when its supervisor is killed") {
    SKIP_UNLESS(is_root(), "root");
    Box slow, dead;
    {
      // 1 MiB of events into a pipe that nobody empties: the supervisor has last words that it cannot get rid of.
      Live live(runner_argv(session_arguments(slow.id, {}, {"sh", "-c", "echo ready=1; yes | head -c 1000000; sleep 60"})));
      REQUIRE(live.await("ready="));
      Timed t = timed({"stop", "-t", "1", slow.id});
      CHECK(t.ran.code == 0);
      CHECK(t.ms < 6000);
      CHECK(runner({"rm", slow.id}).code == 0);
      CHECK(remains_of(slow.id) == "");
    }
    Live live(runner_argv(session_arguments(dead.id, {}, {"/probe", "ignore-term", "60"})));
    REQUIRE(live.await("ready="));
    Live stopping(runner_argv({"stop", "-t", "30", dead.id}));
    CHECK(stopping.wait(300) == -1);
    live.signal(SIGKILL);
    CHECK(stopping.wait(5000) == 0);
    CHECK(json::parse(runner({"inspect", dead.id}).out)[0]["result"] == "runner-error");
  }

  TEST_CASE("sessions that end while others look at them, end them and remove them are no error to anybody") {
    SKIP_UNLESS(is_root(), "root");
    auto end = std::chrono::steady_clock::now() + std::chrono::seconds(4);
    auto goes_on = [&] { return std::chrono::steady_clock::now() < end; };
    auto note = [](std::string& to, const Ran& ran) {
      if (ran.code || !ran.err.empty()) to += ran.err + "(" + std::to_string(ran.code) + ") ";
    };
    std::vector<std::string> wrong(4), ids(3);
    std::vector<std::thread> threads;
    for (std::size_t i = 0; i < ids.size(); ++i) {
      ids[i] = fresh_id();
      threads.emplace_back([&, i] {
        while (goes_on()) {
          note(wrong[i], runner(session_arguments(ids[i], {"-d"}, {"/probe", "sleep", "60"})));
          if (i == 0) note(wrong[i], runner({"pause", ids[i]}));
          if (i != 0) note(wrong[i], runner({"stop", "-s", i == 1 ? "KILL" : "TERM", ids[i]}));
          note(wrong[i], runner({"rm", "-f", ids[i]}));
        }
      });
    }
    threads.emplace_back([&] {
      while (goes_on()) {
        Ran ran = runner({"ls", "-a"});
        note(wrong[3], ran);
        note(wrong[3], runner({"top", "--once", "--interval", "10ms", "--format", "json"}));
      }
    });
    for (std::thread& thread : threads) thread.join();
    for (const std::string& text : wrong) CHECK(text == "");
    for (const std::string& id : ids) CHECK(remains_of(id) == "");
  }

  TEST_CASE("stop refuses containers, bad ids, bad signals and bad times, and signals nobody then") {
    SKIP_UNLESS(is_root(), "root");
    Speaking s({"/probe", "await-signal", "25"});
    Bundle bundle({"sleep", "60"});
    Box container;
    REQUIRE(create(bundle, container).code == 0);
    for (const Args& wrong : {Args{"stop"}, Args{"stop", "../x"}, Args{"stop", "-s", "NOSUCH", s.box.id}, Args{"stop", "-t", "-1", s.box.id},
                              Args{"stop", "-t", "soon", s.box.id}, Args{"stop", container.id}}) {
      CAPTURE(wrong.back());
      Ran ran = runner(wrong);
      CHECK(ran.code == 125);
      CHECK(ran.out == "");
      CHECK(ran.err != "");
    }
    CHECK(s.box.status() == "running");
    CHECK(container.status() == "created");
  }
}
