// What the loop has done for it, having no privilege itself. The process that started it (warden.h) does these few things and no others, over a
// socket; each is named, and none carries anything that a model or a tool has said.
#pragma once

#include <mutex>
#include <stdexcept>
#include <string>

#include "isolate/sys/fd.h"

namespace runner::agent {

/// No failure of one tool or one delegate: it is not to be made a result, but to come out at the top.
struct EndsJob : std::runtime_error {
  using std::runtime_error::runtime_error;
};

/// The session cannot be started; the job may be continued.
struct NoSession : EndsJob {
  using EndsJob::EndsJob;
};

class Hands {
 public:
  explicit Hands(isolate::sys::Fd socket) : socket_(std::move(socket)) {}

  // Each throws std::runtime_error with the reason when it cannot be done. `session` is the job's own or a fork of it.
  /// A connection to the session's supervisor, which is started or woken first.
  /// `identity` becomes what no other session, of the same name and later, has.
  isolate::sys::Fd connect(const std::string& session, std::string* identity = nullptr);
  isolate::sys::Fd open_log(const std::string& session);     ///< its events, from the beginning of the file that is being written
  std::string suspend(const std::string& session);           ///< the name of the snapshot
  void keep(const std::string& session);                     ///< as it stands, in a snapshot of its name; it goes on
  void fork(const std::string& session, const std::string& to);
  void end(const std::string& session);                      ///< stopped and removed; fine when there is none
  isolate::sys::Fd model();                                  ///< a socket to a new runner-model

 private:
  isolate::sys::Fd ask(const std::string& verb, const std::string& session, const std::string& to, std::string* said, bool wants_fd);
  std::mutex mutex_;
  isolate::sys::Fd socket_;
};

}  // namespace runner::agent
