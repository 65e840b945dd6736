// How a session ended, in one word with its evidence. Pure.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "isolate/cgroup.h"
#include "isolate/link.h"
#include "isolate/sys/child.h"
#include "runner/events/types.h"

namespace runner::supervise {

/// What the supervisor saw.
struct Ending {
  std::optional<isolate::sys::Exit> exit;   // of the program; empty when PID 1 died before it
  bool timed_out = false;                   // the supervisor ended it at its deadline
  bool fork_bomb = false;                   // the supervisor ended it for its forks
  int forwarded_signal = 0;                 // the last signal that the caller sent through us
  isolate::CgroupCounters counters;
  std::string suspended;                    // the snapshot that the session is in from now on; empty: it ended
  std::optional<events::Evidence> disk_full;  // its disk limit was met when it ended: who counts, and the bytes that it took
};

struct Verdict {
  events::Result result = events::Result::RunnerError;
  int exit_code = 125;      // of `runner run`: design.md section 6
  std::string reason;       // a sentence
  std::optional<events::Evidence> evidence;
  std::vector<std::string> notes;  // what a person should know besides: limits that were met, or are not in force
  std::string summary;             // time and memory used
  bool never_began = false;        // it could not be set up
  std::string suspended;           // Ending::suspended: then nothing has ended
};

Verdict judge(const Ending& ending);

/// With what the session's last event says of it. Times are in milliseconds.
struct Conclusion {
  Verdict verdict;
  events::SessionEnded event;
};
events::ProcessExited last_exit(const Ending& ending, int pid);
Conclusion conclude(const Ending& ending, const events::ProcessExited& exited, std::uint64_t ms);
Conclusion conclude_unused(std::uint64_t ms);  ///< it was on standby, and nothing of it has run
Conclusion conclude_failed(const isolate::SetupFailure& failure, std::uint64_t ms);

/// A program that meets the pids limit gets EAGAIN and may cope; one that was refused so often is a fork bomb.
constexpr std::uint64_t kForkBombRefusals = 1000;

}  // namespace runner::supervise
