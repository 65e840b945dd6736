// sd_notify(3) for a container. Whoever starts us as a systemd service of Type=notify gives us NOTIFY_SOCKET; the container gets a
// socket of its own at kInside, since on systemd's it could say more than that it is ready: that it stops, or is another process.
#pragma once

#include <optional>
#include <string>

#include "isolate/plan.h"
#include "isolate/sys/child.h"
#include "isolate/sys/fd.h"
#include "runner/session/entry.h"

namespace runner::cli {

/// Where NOTIFY_SOCKET is set: a folder of the entry becomes /run/notify inside, the program is told of the socket that will be in it, and
/// `state` keeps whom to tell.
void offer_ready_socket(const session::Entry& entry, isolate::Plan& plan, session::State& state);

class ReadySocket {
 public:
  /// Listens, if one was offered. Before the program starts: it may speak at once.
  static ReadySocket listen(const session::Entry& entry, const session::State& state);

  /// Passes "READY=1" on, with MAINPID when `main` is not 0; returns when it was said, or the process has ended. At once where none was offered.
  void wait(int pidfd, pid_t main) const;
  /// The same in a process of its own, which ends with the result.
  isolate::sys::Child wait_aside(int pidfd) const;

 private:
  isolate::sys::Fd socket_;
  std::string tell_;
};

}  // namespace runner::cli
