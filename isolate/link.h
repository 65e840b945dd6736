// The conversation between the parent and the child that becomes the sandbox.
//
//   parent (start.cc)                        child (child.cc)
//   cgroup, mounts and filters prepared
//   clone ─────────────────────────────────▶ enters its v1 cgroups; waits
//   id maps                    Go ─────────▶ joins namespaces, makes the root and its mounts
//                              ◀───── Rooted  (only when the plan has hooks)
//   prestart, createRuntime    Pivot ──────▶ createContainer hooks; enters the new root
//                              ◀─── Terminal  (only with a terminal: the master's descriptor)
//                              ◀─── Listener  (only with SCMP_ACT_NOTIFY: the number that the listener's descriptor is going to have)
//   the agent has it           Go ─────────▶
//                              ◀────── Ready  everything is done but seccomp and exec (a session's init goes on at once)
//   `create` leaves here; `start` connects to the gate and speaks on from there
//                              Exec ───────▶ startContainer hooks; filter; execve
//                              ◀─────── Step  runner-exec is next, which the sandbox can look into: what comes now is not trusted
//                              ◀── (closed)   by execve; or Error, at any time
#pragma once

#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "isolate/sys/fd.h"
#include "isolate/sys/socket.h"

namespace isolate {

enum class Signal : char { Go = 'G', Rooted = 'R', Pivot = 'P', Terminal = 'T', Listener = 'L', Ready = 'Y', Exec = 'X', Step = 'S', Error = 'E' };

/// Where a set-up was when it failed; the names are part of the events.
enum class Stage { Prepare, Clone, Start, Namespaces, Root, Hooks, Devices, Network, Terminal, Privileges, Seccomp, Exec };
const char* stage_name(Stage stage);

/// A set-up that failed: one object with all that is known.
struct SetupFailure {
  Stage stage = Stage::Start;
  int code = 0;        // errno, or 0
  std::string path;    // the subject, or empty
  std::string cause;   // a sentence
  std::string hint;    // what to do, or empty
};

class SetupError : public std::runtime_error {
 public:
  explicit SetupError(SetupFailure failure) : std::runtime_error(failure.cause), failure_(std::move(failure)) {}
  const SetupFailure& failure() const noexcept { return failure_; }

 private:
  SetupFailure failure_;
};

/// One end of the conversation.
class Link {
 public:
  Link() = default;
  explicit Link(sys::Fd fd) : fd_(std::move(fd)) {}
  static std::pair<Link, Link> make();

  void send(Signal signal, const std::string& text = {}, const std::vector<int>& fds = {});
  /// Throws SetupError when the other side reports a failure, or is gone.
  sys::Message expect(Signal signal);
  /// Returns when the other side has closed its end: by a successful execve, or by its death. A container can take a copy of that
  /// end out of runner-exec and keep it open: 2 s after Step the program counts as started.
  void expect_end();
  void report(Stage stage, const std::exception& error) noexcept;  ///< best effort: nobody may be listening

  int fd() const noexcept { return fd_.get(); }
  void close() noexcept { fd_.close(); }

 private:
  sys::Message receive();
  [[noreturn]] static void refuse(const std::string& error, bool trusted);
  sys::Fd fd_;
};

/// The failure that an exception stands for.
SetupFailure describe(Stage stage, const std::exception& error);

}  // namespace isolate
