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

events::ProcessExited last_exit(const Ending& ending, int pid) {
  events::ProcessExited exited;
  exited.pid = pid;
  if (ending.exit && ending.exit->signal) exited.signal = ending.exit->signal;
  else if (ending.exit) exited.exit = ending.exit->code;
  else exited.signal = SIGKILL;
  return exited;
}

Conclusion conclude(const Ending& ending, const events::ProcessExited& exited, std::uint64_t ms) {
  Verdict verdict = judge(ending);
  events::SessionEnded ended;
  ended.result = verdict.result;
  ended.exit = exited.exit;
  ended.signal = exited.signal;
  ended.reason = verdict.reason;
  ended.ms = ms;
  ended.cpu_us = ending.counters.cpu_microseconds;
  ended.memory_peak = ending.counters.memory_peak;
  ended.evidence = verdict.evidence;
  verdict.summary = fmt::format("{:.1f} s, {:.1f} s of CPU, {} MiB at the most", static_cast<double>(ms) / 1e3,
                                static_cast<double>(ended.cpu_us) / 1e6, ended.memory_peak >> 20);
  return {verdict, ended};
}

Conclusion conclude_unused(std::uint64_t ms) {
  Conclusion unused;
  unused.verdict.never_began = true;
  unused.verdict.result = unused.event.result = events::Result::Cancelled;
  unused.verdict.reason = unused.event.reason = "it was stopped before anybody wanted it";
  unused.verdict.exit_code = 0;
  unused.event.ms = ms;
  return unused;
}

Conclusion conclude_failed(const isolate::SetupFailure& f, std::uint64_t ms) {
  Conclusion failed;
  failed.verdict.never_began = true;
  bool program = f.stage == isolate::Stage::Exec || f.cause.rfind("exec: ", 0) == 0;
  failed.verdict.exit_code = !program ? 125 : f.code == ENOENT ? 127 : 126;
  failed.verdict.reason = f.cause + (f.hint.empty() ? "" : "; " + f.hint);
  failed.event.result = events::Result::RunnerError;
  failed.event.reason = f.cause;
  failed.event.ms = ms;
  failed.event.failure = events::Failure{isolate::stage_name(f.stage), f.code, f.path, f.cause, f.hint};
  return failed;
}

}  // namespace runner::supervise
