// A further process in a running sandbox: what `exec` does.
#pragma once

#include <string>
#include <vector>

#include "isolate/cgroup.h"
#include "isolate/plan.h"
#include "isolate/seccomp.h"
#include "isolate/sys/child.h"

namespace isolate {

struct JoinOptions {
  int pidfd = -1;               // of the process whose namespaces are joined; the caller has checked that it is the right one
  pid_t pid = 0;
  const Cgroup* cgroup = nullptr;
  std::vector<Filter> filters;
  ListenerState listener_state;  // needed only with such a filter
  int stdio[3] = {-1, -1, -1};
  int exec_program = -1;         // runner-exec, opened by open_sealed()
  int preserve_fds = 0;
  bool lock_privileges = false;  // as in a session: securebits locked
  bool die_with_parent = false;
};

struct Joined {
  sys::Child child;
  sys::Fd terminal;  // the master, when the process asked for one
};

/// Starts `process` in the namespaces and the cgroup of the sandbox; returns once execve has succeeded.
/// Throws SetupError. The caller must be single-threaded; its later children would be born in the pid namespace.
Joined join(const Process& process, const JoinOptions& options);

}  // namespace isolate
