// The supervisor's socket in the session's directory: who connects starts a call, or looks on at one. It speaks the frames of
// isolate/init/protocol.h, one call a connection:
//
//   client                                    supervisor
//   Spawn + CallWish as JSON ───────────────▶ starts a call            or  Replay + name, offset: attaches to a call
//                                           ◀── Started N (offset: pid inside, or how much input an attached one has had; stream 1: it has a terminal)  or  Failed (bytes: stage, errno, path, cause)
//   Go ─────────────────────────────────────▶ only keeps the session awake, as every connection without a call does
//                                           ◀── Go (it is awake)
//   Go, stream 1 ───────────────────────────▶ it may sleep, but not go to disk; answered as the other
//   Park + its name ────────────────────────▶ for a snapshot: PID 1 lets go of its socket, and nothing else is answered meanwhile
//                                           ◀── Parked + what a restore needs, as JSON in a memory file
//   Wake, or (closed) ──────────────────────▶ it goes on; or  Forget: it is suspended, and ends here
//                                           ◀── Wake, once that is done
//   Wake + data of snapshot.created ────────▶ on a connection of its own, for the event
//   Input, EndInput, Resize, Signal ────────▶
//                                           ◀── Output stream, offset, bytes
//                                           ◀── Exited (offset: exit code of the client; bytes: the event's data as JSON)
//   Go, once there is a call ───────────────▶ leaves it: it goes on when the connection is closed
//   (closed) ───────────────────────────────▶ cancels a call that is not detached
//
// The socket's mode lets in its owner only, and the peer's credentials are asked for besides: SO_PEERCRED, unix(7).
#pragma once

#include <poll.h>

#include <deque>
#include <functional>
#include <list>
#include <string>
#include <vector>

#include "isolate/plan.h"
#include "isolate/sys/fd.h"
#include "runner/supervise/calls.h"

namespace runner::supervise {

/// What a client asks for. Rights are not among it: they are the session's.
struct CallWish {
  std::vector<std::string> argv, env;       // env: in addition to the session's
  std::string cwd;                          // empty: the session's
  std::string user;                         // UID[:GID]; empty: the session's
  std::vector<std::uint32_t> groups;
  bool interactive = false, terminal = false, detached = false;
  bool channel = false;                     // of a call without a terminal: its descriptor 3 is one (isolate/init/protocol.h)
  unsigned short rows = 0, columns = 0;
  std::uint64_t wall_ms = 0, memory = 0, pids = 0;  // 0: no limit of its own
  std::string service;                      // of a detached call: its name
  Restart restart = Restart::No;
  std::string trace;                        // the caller's traceparent; empty: the session's
  bool keep_awake = false;                  // the session does not fall asleep while it runs
  std::uint64_t scrollback = 0;             // of its terminal, in bytes; 0: as usual
};
std::string to_json(const CallWish& wish);
CallWish parse_wish(const std::string& json);  ///< throws std::runtime_error

/// What calls are made after: the session's own process, and what none of them may change.
struct Model {
  isolate::Process process;
  std::string trace;                               // the session's traceparent, of which a call is a child
  std::vector<std::string> fixed_env;              // "NAME=value"
  std::uint64_t wall_ms = 0, memory = 0, pids = 0; // the most of one call, and what it gets. 0: the session's own
};

class Control {
 public:
  /// `snapshot` gets what a client says of one (Park, Wake), with its socket, and answers it to its end.
  using Snapshot = std::function<void(int client, const isolate::init::Frame& frame)>;
  Control(isolate::sys::Fd listener, Calls& calls, Model model, Snapshot snapshot);
  ~Control();

  void wait_for(std::vector<pollfd>& list) const;
  void ready(const pollfd* list);            ///< the entries that wait_for() added
  bool busy() const;                         ///< somebody waits for an answer
  bool alone() const { return clients_.empty(); }

 private:
  class Client;
  void accept_one();
  void hear_all_but(const Client& by);
  void take_over(const Client& by);

  isolate::sys::Fd listener_;
  Calls& calls_;
  Model model_;
  Snapshot snapshot_;
  std::list<Client> clients_;
  bool hears_all_ = false;
};

}  // namespace runner::supervise
