// Where a sandbox is restored instead of started. CRIU makes the processes and their namespaces again; the cgroup, the root and whatever is
// mounted on it are ours, laid out for it to take over.
#pragma once

#include <functional>
#include <string>

#include "isolate/cgroup.h"
#include "isolate/disk.h"
#include "isolate/link.h"
#include "isolate/plan.h"
#include "isolate/start.h"
#include "isolate/sys/child.h"

namespace isolate {

/// In the restorer's mount namespace /run is a file system of the caller's, with these folders (the caller makes them).
inline constexpr const char* kRestoreFolders[] = {"root", "bare", "flat", "generated", "devices", "empty", "store"};
inline constexpr const char* kLaidOut = "/run/root";    // the plan's root with all its mounts, but those of the kernel's own file systems
inline constexpr const char* kBareRoot = "/run/bare";   // the root alone
/// Mount n of the plan without those below it: in a new user namespace a mount cannot be taken from under others, which are locked together
/// (mount_namespaces(7)). What stands on a view of a namespace, as folders of cgroup v1 at /sys/fs/cgroup, has those below it.
std::string flat_mount(std::size_t n);
inline constexpr const char* kNoFile = "/run/flat/null";   // /dev/null, for masks of files
inline constexpr const char* kNoFiles = "/run/empty";   // an empty read-only directory, for masks

struct RestorerOptions {
  CgroupHost cgroups;
  int run = -1;                     // a detached tmpfs, for /run
  int store = -1;                   // a detached mount of the images, for /run/store
  std::function<void(const Disk& workspace)> fill;  // puts files where the plan's binds begin, before they are mounted; null: they are there
  std::vector<int> keep;            // descriptors that stay open
  std::function<void()> become;     // executes CRIU; does not return
};

/// A process in the plan's cgroup and a mount namespace of its own. It has executed CRIU, and its root is laid out there, once ready() returns.
class Restorer {
 public:
  struct Helper {
    sys::Child child;
    Link link;
  };
  Restorer(Helper criu, Helper layout, sys::Child breakpoints, Cgroup cgroup, Disk disk, Disk workspace)
      : disk_(std::move(disk)), workspace_(std::move(workspace)), cgroup_(std::move(cgroup)), breakpoints_(std::move(breakpoints)),
        child_(std::move(criu.child)), link_(std::move(criu.link)), layout_(std::move(layout)) {}
  /// Throws SetupError when it could not.
  void ready();
  /// Freezes what CRIU has made, while it stands still. CRIU is in the same group until then, and leaves it for ours. Needs cgroup v2.
  void hold(const CgroupHost& host);
  /// Of what CRIU has made, whose root is our child by now (rst_sibling). Waits until CRIU has gone; the restorer is empty then.
  Sandbox take_up(pid_t root, sys::Fd terminal = {});

  sys::Child& child() { return child_; }
  Cgroup& cgroup() { return cgroup_; }
  Disk& disk() { return disk_; }
  Disk& workspace() { return workspace_; }

 private:
  Disk disk_, workspace_;
  Cgroup cgroup_;
  sys::Child breakpoints_, child_;
  Link link_;
  Helper layout_;
};

/// Needs root; the caller must be single-threaded. Throws SetupError.
Restorer start_restorer(const Plan& plan, const RestorerOptions& options);

}  // namespace isolate
