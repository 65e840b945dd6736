// The file systems of a sandbox: what is prepared with the host's rights, and what is made inside.
//
// prepare_mounts() opens every source before the sandbox exists and returns detached mounts. attach_*() run in the
// child, in its own mount namespace, and find their targets below the new root by openat2: a path that the sandbox's
// owner, an image or a concurrent rename controls can never lead out (CVE-2021-30465, CVE-2024-45310).
#pragma once

#include <string>
#include <vector>

#include "isolate/disk.h"
#include "isolate/plan.h"
#include "isolate/sys/fd.h"
#include "isolate/sys/paths.h"

namespace isolate {

struct MountHandles {
  sys::Fd root;                 // the new root, detached
  // A layer of it. Closing a detached mount waits for an RCU grace period (0.3 ms and more): this one goes away with the old root.
  sys::Fd generated;
  sys::Fd devices;              // make_devices(); it goes away with the old root too
  std::vector<sys::Fd> mounts;  // one for each of Plan::mounts; empty where the child makes the mount itself; of a Bind::inside the id map, if it has one
};

/// Puts the quota of a bind in force, whose folder is made when it is the sandbox's own. No limit where no bind has one.
Disk bound_workspace(const Plan& plan);

/// Writes the plan's files, mounts the overlay, copies and id-maps the bind sources.
/// `cgroup` is the sandbox's directory in the v2 hierarchy, for a CgroupView without a cgroup namespace; may be empty.
MountHandles prepare_mounts(const Plan& plan, const std::string& cgroup, const Disk& disk, const Disk& workspace);

/// Mounts the new root over the old one and returns it; everything below works on that descriptor. `for_hooks`: where the plan's root lies, if it
/// is a directory that is pivoted into, and that this process can reach. There prestart and createRuntime hooks look for it, from within this mount namespace.
sys::Fd attach_root(const Plan& plan, MountHandles& handles, bool for_hooks);
void attach_mounts(int root, const Plan& plan, MountHandles& handles);

/// sys::make_below, and as the plan's user where root has no id of its own.
sys::Fd make_place(int root, const std::string& path, sys::Make make, sys::Links links, const Process& process);

/// Shows /dev/null in place of a file and an empty read-only directory in place of a directory.
void mask_paths(int root, const std::vector<std::string>& paths);
void make_paths_read_only(int root, const std::vector<std::string>& paths);

/// Sets the root's own attributes; afterwards nothing can be made in a read-only root.
void finish_root(int root, const Plan& plan);

/// Makes `root` the root of this process, lets go of the old one, and then gives the root its propagation.
void enter_root(int root, const Root& plan);

}  // namespace isolate
