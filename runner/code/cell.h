// A context and its cells, seen from the host: the interpreter is a background call of the session, named after the context, and whoever
// wants something of it talks to the supervisor as `attach` does (runner/supervise/control.h).
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "isolate/sys/fd.h"
#include "runner/code/answers.h"
#include "runner/code/language.h"
#include "runner/supervise/output.h"

namespace runner::code {

/// Its name among the calls of the session: "code-CONTEXT".
std::string call_of(const std::string& context);

/// A connection to a context that runs, at the end of what it has said so far; empty when there is none of that name.
std::optional<isolate::sys::Fd> find_context(const std::string& socket, const std::string& context);
/// What a context may take, within the session's limits; 0: no limit of its own.
struct Limits {
  std::uint64_t memory = 0, pids = 0;
};
/// Starts an interpreter, gives it its driver, and returns the connection. Throws SetupError when the sandbox has no such program.
isolate::sys::Fd begin_context(const std::string& socket, const std::string& context, const Language& language,
                               const Limits& limits);
/// SIGINT for what runs in it; a context that rests does not notice. The connection is at its end then.
void interrupt_context(const isolate::sys::Fd& connection);
/// Kills the interpreter and all that it has started; returns when it is gone.
void end_context(const isolate::sys::Fd& connection);

/// Who is told what a cell does, while it runs.
class Audience {
 public:
  virtual ~Audience() = default;
  virtual void ready(const Ready& ready) = 0;                            ///< it begins
  virtual void output(std::uint8_t stream, std::string_view bytes) = 0;  ///< 1: stdout, 2: stderr
  /// Where that goes in the end: when one is full, the cell waits.
  virtual std::vector<supervise::Output*> outputs() = 0;
};

enum class How { Done, TimedOut, Lost, Left };

struct CellEnd {
  How how = How::Done;
  std::optional<Done> done;    // also of one that timed out, when its interruption sufficed
  bool lost = false;           // the context is gone
  int signal = 0;              // of ours, that interrupted it
  std::string result, reason;  // of the interpreter when it is gone: a word of session.ended, and a sentence
  std::uint64_t ms = 0;        // from its beginning
};

struct Cell {
  std::optional<std::string> source;  // UTF-8; empty: only until the context is ready
  std::uint64_t timeout_ms =
      0;  // 0: none. Counted from its beginning; then it is interrupted, and killed when that does not help
};

constexpr std::size_t kLargestCell = 4u << 20;

/// Runs a cell to its end, when all that ran before it has ended. One at a time: the caller holds the context's lock. Signals that we get
/// interrupt it; a second one leaves it alone. Throws BadAnswer, and std::runtime_error when the session ends.
CellEnd run_cell(const isolate::sys::Fd& connection, const Cell& cell, Audience& audience);

}  // namespace runner::code
