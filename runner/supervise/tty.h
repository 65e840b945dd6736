// The caller's terminal and a terminal in the sandbox, connected.
#pragma once

#include <termios.h>

#include <optional>

#include "isolate/sys/child.h"
#include "isolate/sys/fd.h"

namespace runner::supervise {

/// Raw mode while it lives: every key goes to the program inside, Ctrl-C included.
class RawMode {
 public:
  explicit RawMode(int fd);  ///< does nothing when `fd` is no terminal
  RawMode(RawMode&& other) noexcept : fd_(std::exchange(other.fd_, -1)), saved_(other.saved_) {}
  ~RawMode();

 private:
  int fd_ = -1;
  termios saved_{};
};

/// A terminal that is shown on another one leaves newlines to that one; who reads it through a pipe gets what the program wrote, as with runc.
void leave_newlines(int terminal);

/// Gives the terminal of `from` its size to `to`.
void copy_window_size(int from, int to);

/// Our ends of a program's standard streams. Empty ones are not relayed: the program has the caller's own. A terminal's master
/// is `in` and, as a second descriptor, `out`.
struct Ends {
  isolate::sys::Fd in, out, err;
  bool terminal = false;
};
Ends ends_of(isolate::sys::Fd terminal);

/// Sends the signals that this process gets on to the child, copies between its streams and ours, and returns when the child has
/// ended and its last output is out. This is `run` and `exec` in the foreground.
isolate::sys::Exit relay(isolate::sys::Child& child, Ends ends);

/// All signals that a supervisor passes on, blocked and readable. SIGPIPE is ignored from then on.
isolate::sys::Fd catch_signals();

}  // namespace runner::supervise
