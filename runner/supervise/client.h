// The other end of a session's control socket: what `exec` and `attach` do.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>

#include "isolate/sys/fd.h"
#include "runner/supervise/control.h"

namespace runner::supervise {

/// A connection to the supervisor of a session. Throws when there is none: the session has ended.
isolate::sys::Fd connect_to_session(const std::string& socket);

/// That session is awake from now on, as long as the connection is open; if it `may_sleep`, it only does not go to disk. Empty when it has
/// ended.
isolate::sys::Fd keep_awake(const std::string& socket, bool may_sleep);

struct Watching {
  bool interactive = false;         // our stdin goes in, raw when the call has a terminal
  bool detached = false;            // return once it runs
  bool only_looks = false;          // a signal ends the looking, and not the call
  bool takes_over = false;          // who else is attached to it is sent away
  std::string detach_keys;          // bytes after which an attached client leaves the call alone; empty: none
  /// Each of these may be empty.
  std::function<void(int pid)> on_started;
  std::function<void(std::uint8_t stream, std::uint64_t offset, std::string_view bytes)> on_output;  // instead of our stdout and stderr
  std::function<void(const std::string& event)> on_exited;  // the data of process.exited, as JSON
};

struct Watched {
  int exit_code = 0;                // of `exec`
  bool left = false;                // by the detach keys
  bool taken = false;               // another client took it over; it runs on
  std::uint32_t call = 0;           // its number: that of c1 is 1
};

/// Starts a call, or attaches to one, and stays until it ends. Signals that we get go to it. Throws SetupError when it cannot begin,
/// and std::runtime_error when the session ends before the call does.
Watched run_call(const isolate::sys::Fd& socket, const CallWish& wish, const Watching& how);
events::ProcessExited parse_exited(const std::string& event);
Watched attach_call(const isolate::sys::Fd& socket, const std::string& call, std::uint64_t offset, const Watching& how);

}  // namespace runner::supervise
