// A call of the job's session, over its control socket (runner/supervise/control.h): an MCP server, the tool host, or what `exec` runs.
#pragma once

#include <optional>
#include <string>

#include "isolate/sys/fd.h"
#include "runner/agent/transport.h"
#include "runner/events/types.h"
#include "runner/supervise/control.h"

namespace runner::agent {

class SessionCall {
 public:
  /// Starts one that goes on when this object is gone. Throws isolate::SetupError when it cannot begin.
  static SessionCall start(isolate::sys::Fd connection, const supervise::CallWish& wish);
  /// Takes up one that runs, from now on. Empty when none of that name runs.
  static std::optional<SessionCall> attach(isolate::sys::Fd connection, const std::string& name);

  /// Waits for a program that does not read for ten seconds; then throws ServerGone.
  void send(std::string_view bytes);

  /// What comes of any stream, in its order; stream 0 is its end. Empty when the wait is over. Throws ServerGone when the session has ended.
  struct Piece {
    std::uint8_t stream = 0;
    std::uint64_t offset = 0;            // in its stream
    std::string bytes;                   // of the end: the data of process.exited, as JSON
    int exit_code = 0;                   // of the end, as `exec` would return it
  };
  std::optional<Piece> next(std::uint64_t wait_ms);
  /// Only of stdout, or of the channel of a call that has one. Throws ServerGone at its end.
  std::optional<Piece> next_output(std::uint64_t wait_ms);
  void kill();
  /// Likewise, unless it has ended, and waits until it is gone: its name is free then.
  void end(std::uint64_t wait_ms);                           ///< with all that it has started
  std::uint64_t input() const { return input_; }  ///< bytes that it was told since it began, by whoever

 private:
  explicit SessionCall(isolate::sys::Fd connection) : connection_(std::move(connection)) {}
  isolate::sys::Fd connection_;
  bool ended_ = false;
  std::uint64_t input_ = 0;
  std::string last_words_;               // of stderr
};

/// What a log has of a stream: not its beginning, when the session has come out of a snapshot, or its log is long.
struct LoggedStream {
  std::uint64_t from = 0;                // of its bytes that were ever printed
  std::string bytes;
  std::uint64_t end() const { return from + bytes.size(); }
};

/// The end of a call as the session's log tells it, with what it had printed; empty when the log knows of no such call.
struct LoggedCall {
  std::optional<std::string> exited;     // the data of process.exited, as JSON; empty: it has begun, and not ended
  LoggedStream out, err;
};
/// `whole` becomes whether the log has its beginning.
std::optional<LoggedCall> find_in_log(const isolate::sys::Fd& log, const std::string& call, bool* whole = nullptr);

}  // namespace runner::agent
