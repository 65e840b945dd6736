// One CRIU process of ours, spoken to over a socket: `criu swrk`, with the messages of rpc.proto. CRIU is GPL-2: a separate process, never
// linked. What it can and cannot do is in criu(8); what was measured of it is in the tests of this folder.
#pragma once

#include <sys/types.h>

#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "isolate/sys/fd.h"

namespace runner::snapshot {

/// What a caller of `checkpoint` and `restore` may want; see criu(8), as for the rest.
struct CriuFlags {
  bool tcp_established = false, ext_unix_sk = false, shell_job = false, file_locks = false, auto_dedup = false, lazy_pages = false;
};

/// Fields have CRIU's names.
struct CriuOptions : CriuFlags {
  int images = -1, work = -1;         // folders of the caller, which CRIU opens through /proc
  pid_t pid = 0;                      // of a dump: the root of the tree
  std::string root;                   // of a restore: where the new root is mounted, in CRIU's mount namespace
  std::string log = "criu.log";       // in `work`
  std::vector<std::string> external;  // "mnt[/usr]:usr", "net[4026531840]:name"
  std::vector<std::pair<std::string, int>> inherit;  // resources and descriptors of the CRIU process
  unsigned long empty_namespaces = 0; // CLONE_NEW*: made anew and left empty
  bool leave_running = false;
  bool tcp_close = false, link_remap = false, track_memory = false;
  std::string parent;                 // images of an earlier pre-dump, relative to `images`
  unsigned ghost_limit = 0;           // bytes of a deleted file that is still open; 0: CRIU's own
  int log_level = 2;                  // 2: errors and warnings. 4 costs 2 ms
  int status_fd = -1;
  // Of plain containers.
  bool orphan_pts_master = false;     // a terminal whose master is outside: see on_terminal
  bool ext_masters = false;           // a mount that gets what is mounted in a group of the host
  std::string freeze_cgroup;          // of a container that is frozen already: CRIU thaws it to look in, and freezes it again
  std::string page_server;            // address of who takes the pages of a dump, and
  int page_server_port = 0;
  std::function<void(isolate::sys::Fd master)> on_terminal;  // gets what takes the place of that master at a restore
  /// Asked every second while CRIU says nothing; what it answers ends the wait. CRIU waits for ever when a process that it makes dies early.
  std::function<std::string()> stuck;
};

/// A point of a dump or restore at which CRIU waits for us, by its name ("post-dump", "post-setup-namespaces", "pre-resume", ...), and the
/// pid of the tree's root where it is known by then, else 0. An exception ends the operation.
using CriuHook = std::function<void(const std::string& when, pid_t pid)>;

class Criu {
 public:
  /// `socket` is our end of a socket_pair(); the other is with a process that has called become().
  explicit Criu(isolate::sys::Fd socket) : socket_(std::move(socket)) {}
  /// In a child: `program swrk`, with `socket` and all that was made inheritable. `quiet`: without our standard descriptors, for what it has
  /// to say is in its log; and who waits for the end of our output must not wait for it. `reads`: it is for a restore, and memory is read as
  /// criu-hooks/pages.c has it.
  [[noreturn]] static void become(const std::string& program, int socket, bool quiet, bool reads);

  std::string version();  ///< "4.1.1"; before anything else is asked
  /// Throws std::runtime_error with CRIU's own first error, read from the log.
  void dump(const CriuOptions& options, const CriuHook& hook);
  void pre_dump(const CriuOptions& options, const CriuHook& hook);
  /// The root of the tree, which is a child of CRIU's parent.
  pid_t restore(const CriuOptions& options, const CriuHook& hook);

 private:
  pid_t request(int type, const char* what, const CriuOptions& options, const CriuHook& hook);
  isolate::sys::Fd socket_;
};

}  // namespace runner::snapshot
