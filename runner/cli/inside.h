// What the verbs share that work inside a running sandbox: finding it, and bytes to and from a helper there.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "isolate/enter.h"
#include "runner/cli/context.h"

namespace runner::cli {

/// A sandbox that is there, held by the descriptor of its first process.
struct Target {
  std::string id;
  session::State state;
  isolate::sys::Fd process;
  isolate::Process first;  // what `exec` starts from: its user
  isolate::sys::Fd awake;  // it does not fall asleep as long as this is open: awake.h

  isolate::Place place() const;
};

/// Throws for an unknown or stopped one, in the words of `verb`.
Target find_target(Context& context, const std::string& id, const std::string& verb);

/// A descriptor that is read and written without waiting for longer than the sandbox lives: a helper that waits for its parent holds the
/// sandbox's mounts. `until` is its pidfd; -1 waits for ever.
class Stream {
 public:
  Stream(int fd, int until, const std::string& name) : fd_(fd), until_(until), name_(name) {}
  std::size_t read(char* to, std::size_t size);  ///< 0 at the end
  void write(std::string_view bytes);

 private:
  void wait(short events);
  int fd_, until_;
  std::string name_;
};

/// A pipe that holds more than the usual one.
std::pair<isolate::sys::Fd, isolate::sys::Fd> wide_pipe();

/// A name from inside, for a terminal: no control characters.
std::string printable(std::string text);

/// Those that end a verb in the foreground, blocked from now on, and readable.
isolate::sys::Fd ending_signals();

}  // namespace runner::cli
