// A Plan becomes a Sandbox.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "isolate/cgroup.h"
#include "isolate/disk.h"
#include "isolate/link.h"
#include "isolate/plan.h"
#include "isolate/seccomp.h"
#include "isolate/sys/child.h"

namespace isolate {

/// What the caller lends to a start beyond the plan. Descriptors stay the caller's.
struct StartOptions {
  CgroupHost cgroups;
  std::string filter_cache;             // directory for compiled filters; empty: none
  int preserve_fds = 0;                 // descriptors 3 .. 2+n reach the program
  int exec_program = -1;                // runner-exec, opened by open_sealed(); not for Plan::init
  int init_program = -1;                // for Plan::init: the program of PID 1; -1: the one that the plan shows at kInitProgram
  int init_control = -1;                // and its end of the control socket, which becomes descriptor 3
  int stdio[3] = {-1, -1, -1};          // standard descriptors of the program; -1: the caller's own. Not for Plan::init
  int gate = -1;                        // a listening socket on which the child awaits Exec, instead of the link
  bool die_with_parent = true;
  std::function<void(const Disk& workspace)> fill;  // as RestorerOptions has it
  /// The state JSON for hooks: (status, pid in the caller's namespace). Needed only with hooks.
  std::function<std::string(const char* status, pid_t pid)> hook_state;
  ListenerState listener_state;         // needed only with a filter that has a listener
  /// Called when the child is in its cgroups and sets itself up: what the caller does meanwhile costs no time.
  std::function<void(pid_t pid)> on_born = [](pid_t) {};
};

/// A process tree behind its walls. Destroying it kills and removes it, unless release() was called.
class Sandbox {
 public:
  Sandbox(sys::Child child, Cgroup cgroup, Disk disk, Link link, sys::Fd terminal, bool waits, Disk workspace = {})
      : disk_(std::move(disk)), cgroup_(std::move(cgroup)), child_(std::move(child)), link_(std::move(link)), terminal_(std::move(terminal)), waits_(waits), workspace_(std::move(workspace)) {}

  /// Lets the program run: returns once execve has succeeded; throws SetupError when it could not. A session's init does not wait
  /// for it, since it does nothing before it is asked to.
  void execute(const std::string& hook_state = {});

  sys::Child& child() { return child_; }
  Cgroup& cgroup() { return cgroup_; }
  const Disk& disk() const { return disk_; }
  const Disk& workspace() const { return workspace_; }  ///< of the bind with a quota
  sys::Fd& terminal() { return terminal_; }  ///< the master of the plan's terminal, or empty
  /// The processes and the group live on without this object.
  pid_t release() {
    cgroup_.leave();
    return child_.release();
  }

 private:
  Disk disk_;
  Cgroup cgroup_;      // destroyed after the child: its processes are gone by then
  sys::Child child_;
  Link link_;
  sys::Fd terminal_;
  bool waits_;         // for Exec
  Disk workspace_;
};

/// Everything up to, and without, execve of the program (for Plan::init: PID 1 may already run). The caller must be single-threaded.
Sandbox start(const Plan& plan, const StartOptions& options);

/// The other end of a gate: what `start` says to a container that `create` left waiting. Throws SetupError.
void open_gate(Link link, const std::string& hook_state);

}  // namespace isolate
