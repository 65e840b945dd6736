#include "runner/supervise/verdict.h"

#include <doctest/doctest.h>
#include <signal.h>

using namespace runner::supervise;
using runner::events::Result;

namespace {

Ending ended(int code, int signal = 0) {
  Ending ending;
  ending.exit = isolate::sys::Exit{code, signal};
  return ending;
}

}  // namespace

TEST_SUITE("verdict") {
  TEST_CASE("a program's own exit status is the result, and 0 is success") {
    CHECK(judge(ended(0)).result == Result::Success);
    CHECK(judge(ended(3)).result == Result::ExitCode);
    CHECK(judge(ended(3)).exit_code == 3);
  }

  TEST_CASE("SIGKILL is an oom-kill only with the kernel's counter beside it") {
    Ending ending = ended(0, SIGKILL);
    CHECK(judge(ending).result == Result::Signal);
    ending.counters.oom_kills = 1;
    ending.counters.oom_source = "memory.events oom_kill";
    Verdict verdict = judge(ending);
    CHECK(verdict.result == Result::OomKill);
    CHECK(verdict.exit_code == 137);
    CHECK(verdict.evidence->counter == 1);
  }

  TEST_CASE("a program that gave up after its forks were refused ended by the pids limit") {
    Ending ending = ended(1);
    ending.counters.forks_refused = 2;
    CHECK(judge(ending).result == Result::PidsLimit);
    CHECK(judge(ending).exit_code == 1);
  }

  TEST_CASE("a program that failed with a full disk ended by the disk limit; one that did not care succeeded") {
    Ending ending = ended(1);
    ending.disk_full = runner::events::Evidence{"statfs(2)", 4096};
    CHECK(judge(ending).result == Result::DiskQuota);
    CHECK(judge(ending).exit_code == 1);
    CHECK(judge(ending).evidence->source == "statfs(2)");
    ending.exit->code = 0;
    CHECK(judge(ending).result == Result::Success);
  }

  TEST_CASE("a program that coped with a limit succeeded") {
    Ending ending = ended(0);
    ending.counters.forks_refused = 2;
    ending.counters.oom_kills = 1;
    CHECK(judge(ending).result == Result::Success);
  }

  TEST_CASE("the deadline comes before what the program made of its end") {
    Ending ending = ended(0, SIGKILL);
    ending.timed_out = true;
    CHECK(judge(ending).result == Result::Timeout);
    CHECK(judge(ending).exit_code == 124);
  }

  TEST_CASE("a signal that the caller sent is a cancellation") {
    Ending ending = ended(0, SIGTERM);
    ending.forwarded_signal = SIGTERM;
    CHECK(judge(ending).result == Result::Cancelled);
    CHECK(judge(ending).exit_code == 143);
  }

  TEST_CASE("PID 1 that dies before the program was ended from outside") { CHECK(judge(Ending{}).result == Result::Cancelled); }
}
