#include "runner/supervise/verdict.h"

#include <fmt/format.h>
#include <signal.h>

namespace runner::supervise {

using events::Result;

Verdict judge(const Ending& e) {
  const isolate::CgroupCounters& c = e.counters;
  auto memory = [&] { return events::Evidence{c.oom_source, c.oom_kills}; };
  auto pids = [&] { return events::Evidence{c.pids_source, c.forks_refused}; };

  if (e.timed_out) return {Result::Timeout, 124, "the wall time limit was reached", std::nullopt, {}, {}};
  if (e.fork_bomb)
    return {Result::PidsLimit, 128 + SIGKILL, fmt::format("stopped after {} forks were refused", c.forks_refused), pids(), {}, {}};
  if (!e.exit) {
    if (c.oom_kills) return {Result::OomKill, 128 + SIGKILL, "the kernel killed PID 1 of the sandbox for the memory limit", memory(), {}, {}};
    return {Result::Cancelled, 128 + SIGKILL, "PID 1 of the sandbox was killed", std::nullopt, {}, {}};
  }
  if (int signal = e.exit->signal) {
    int code = 128 + signal;
    if (signal == SIGKILL && c.oom_kills) return {Result::OomKill, code, "the kernel killed the program for the memory limit", memory(), {}, {}};
    if (signal == e.forwarded_signal)
      return {Result::Cancelled, code, fmt::format("ended by the signal {} that the caller sent", signal), std::nullopt, {}, {}};
    return {Result::Signal, code, fmt::format("killed by signal {}", signal), std::nullopt, {}, {}};
  }
  if (int code = e.exit->code) {
    // The program lived on after its limit was met and gave up by itself: the limit is what the reader must know.
    if (c.oom_kills) return {Result::OomKill, code, fmt::format("exit status {} after a process was killed for the memory limit", code), memory(), {}, {}};
    if (c.forks_refused) return {Result::PidsLimit, code, fmt::format("exit status {} after forks were refused", code), pids(), {}, {}};
    if (e.disk_full) return {Result::DiskQuota, code, fmt::format("exit status {} with the session's disk full", code), *e.disk_full, {}, {}};
    return {Result::ExitCode, code, fmt::format("exit status {}", code), std::nullopt, {}, {}};
  }
  return {Result::Success, 0, "exit status 0", std::nullopt, {}, {}};
}

}  // namespace runner::supervise
