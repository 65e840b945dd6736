// Deaths and want in the middle of a snapshot or a restore: the session goes on, and there is a whole snapshot or none.
#include <doctest/doctest.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/stat.h>

#include <chrono>
#include <random>
#include <thread>

#include "tests/snapshot/support.h"

using namespace tests;

namespace {

void pass(int milliseconds) { std::this_thread::sleep_for(std::chrono::milliseconds(milliseconds)); }
bool answers(const Box& box) { return exec(box, {"echo", "fine"}, {.timeout_ms = 8'000}).out == "fine\n"; }
bool whole_or_none(const Shot& shot) {
  Ran ran = runner({"snapshot", "verify", "--full", shot.name});
  return ran.code == 0 || ran.err.find("there is no snapshot") != std::string::npos;
}

// A few MB, so that there is a middle.
const Args kWork{"sh", "-c", "x=$(head -c 8000000 /dev/zero | tr '\\0' x); while :; do echo tick; sleep 0.1; done"};

struct Working : Twins {
  Working() : Twins(kWork) { REQUIRE(runner({"wait", "--line", "tick", one.id}).code == 0); }
};

}  // namespace

TEST_SUITE("snapshot crash") {
  TEST_CASE("a killed `snapshot create` leaves the session running, and a whole snapshot or none") {
    SKIP_UNLESS(is_root(), "root");
    Working twins;
    std::mt19937 random(7);
    for (int i = 0; i < 12; ++i) {
      Shot shot;
      int after = static_cast<int>(random() % 200);
      CAPTURE(after);
      {
        Live taking(runner_argv({"snapshot", "create", "--leave-running", "--name", shot.name, twins.one.id}));
        pass(after);
        taking.signal(SIGKILL);
        taking.wait();
      }
      CHECK(answers(twins.one));
      CHECK(whole_or_none(shot));
    }
    CHECK(twins.snapshot().code == 0);
    CHECK(twins.restore().code == 0);
    CHECK(answers(twins.other));
    CHECK(runner({"logs", "--verify", twins.one.id}).code == 0);
  }

  TEST_CASE("a killed restore leaves nothing behind the next command") {
    SKIP_UNLESS(is_root(), "root");
    Working twins;
    REQUIRE(twins.snapshot().code == 0);
    std::mt19937 random(8);
    for (int i = 0; i < 10; ++i) {
      int after = static_cast<int>(random() % 120);
      CAPTURE(after);
      Box box;
      Live restoring(runner_argv({"restore", "--from", twins.shot.name, "--rm", box.id}));
      pass(after);
      restoring.signal(SIGKILL);
      restoring.wait();
      CHECK(eventually([&] { return runner({"ls"}).code == 0 && remains_of(box.id) == ""; }, 3000));
    }
    CHECK(answers(twins.one));
    CHECK(runner({"snapshot", "rm", twins.shot.name}).code == 0);  // nothing uses it
  }

  TEST_CASE("a full disk fails the snapshot, and only that") {
    SKIP_UNLESS(is_root(), "root");
    Working twins;
    std::string store = data_dir() + "/snapshots";
    ::mkdir(store.c_str(), 0700);
    REQUIRE(::mount("tmpfs", store.c_str(), "tmpfs", 0, "size=3m,mode=700") == 0);
    Ran ran = twins.snapshot();
    CHECK(::umount2(store.c_str(), MNT_DETACH) == 0);
    INFO(ran.err);
    CHECK(ran.code == 125);
    CHECK(answers(twins.one));
    CHECK(twins.snapshot().code == 0);
  }

  TEST_CASE("two snapshots at once, and a session that ends in the middle of one") {
    SKIP_UNLESS(is_root(), "root");
    Working twins;
    Shot next, last;
    Live first(runner_argv({"snapshot", "create", "--leave-running", "--name", twins.shot.name, twins.one.id}));
    Live second(runner_argv({"snapshot", "create", "--leave-running", "--name", next.name, twins.one.id}));
    CHECK(first.wait() == 0);
    CHECK(second.wait() == 0);
    CHECK(answers(twins.one));
    CHECK(twins.restore({"--verify", "full"}).code == 0);
    CHECK(whole_or_none(next));

    Live taking(runner_argv({"snapshot", "create", "--leave-running", "--name", last.name, twins.one.id}));
    pass(60);
    CHECK(runner({"rm", "-f", twins.one.id}).code == 0);
    CHECK(taking.wait() >= 0);
    CHECK(remains_of(twins.one.id) == "");
    CHECK(whole_or_none(last));
  }

  TEST_CASE("a CRIU that hangs is ended after its time, and the session goes on") {
    SKIP_UNLESS(is_root(), "root");
    Working twins;
    auto stop_criu_of = [](pid_t parent) {
      using Clock = std::chrono::steady_clock;
      for (Clock::time_point end = Clock::now() + std::chrono::seconds(2); Clock::now() < end;)  // without a pause: all of it takes 40 ms
        for (pid_t pid : processes_with("swrk"))
          if (read("/proc/" + std::to_string(pid) + "/stat").find(" " + std::to_string(parent) + " ") != std::string::npos) return ::kill(pid, SIGSTOP) == 0;
      return false;
    };
    std::optional<Live> taking;
    int tries = 0;
    for (bool caught = false; !caught; ++tries) {
      REQUIRE(tries < 20);
      if (taking) REQUIRE(runner({"snapshot", "rm", twins.shot.name}).code == 0);  // it was quicker than we
      taking.emplace(runner_argv({"snapshot", "create", "--leave-running", "--name", twins.shot.name, twins.one.id}), How{.env = {{"RUNNER_CRIU_TIMEOUT", "2"}}});
      caught = stop_criu_of(taking->pid());
    }
    CHECK(taking->wait() == 125);
    CHECK(taking->err.find("criu has not answered for 2 s") != std::string::npos);
    CHECK(answers(twins.one));
    CHECK(!twins.shot.there());

    Folder folder;
    folder.write("criu", "#!/bin/sh\nexec sleep 60\n", 0755);  // says nothing at all
    Ran mute = runner({"--criu", folder / "criu", "snapshot", "create", "--leave-running", "--name", twins.shot.name, twins.one.id},
                      {.env = {{"RUNNER_CRIU_TIMEOUT", "1"}}, .timeout_ms = 20'000});
    CHECK(mute.code == 125);
    CHECK(mute.err.find("criu has not answered for 1 s") != std::string::npos);
    CHECK(twins.snapshot().code == 0);
  }
}
