// Checkpoint and restore of a plain container, as the OCI verbs have it: the caller's folder holds CRIU's images and what runner has to
// know besides. The container's mounts, cgroup and network namespace are ours; its processes, with all that they hold, are CRIU's.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "isolate/cgroup.h"
#include "isolate/plan.h"
#include "isolate/start.h"
#include "runner/session/directories.h"
#include "runner/session/entry.h"
#include "runner/snapshot/criu.h"
#include "runner/snapshot/mounts.h"

namespace runner::snapshot {

/// In the folder of the images: what is needed of the old container. Written last, so that a dump that was cut short has none.
inline constexpr const char* kContainerRecord = "runner.json";
/// What descriptors 0 to 2 were, as runc keeps it for those who look into its images.
inline constexpr const char* kDescriptors = "descriptors.json";
/// CRIU's name of the network namespace that is ours.
inline constexpr const char* kNetworkKey = "runner-network";

/// What dump and restore have in common.
struct ImageOptions : CriuFlags {
  std::string criu;                // the program
  std::string images;              // folder
  std::string work;                // folder of the log
};

struct CheckpointOptions : ImageOptions {
  std::string parent;              // folder of an earlier pre-dump, relative to `images`
  bool leave_running = false, pre_dump = false;
  int status_fd = -1;
  std::string page_server;         // address, and
  int page_server_port = 0;
};

/// Returns sentences about what the checkpoint does not hold. Throws with the container as it was.
std::vector<std::string> checkpoint(const session::Directories& directories, const isolate::CgroupHost& cgroups, const session::State& state,
                                    const isolate::Plan& plan, const CheckpointOptions& options);

struct RestoreOptions : ImageOptions {
  bool fresh_network = false;      // also when the plan joins one
  bool held = false;               // its processes are frozen, and go on once their cgroup is thawed
  std::function<std::string(const char* status, pid_t pid)> hook_state;  // the state JSON for hooks
  std::function<void()> meanwhile = [] {};  // while the mounts are laid out: what the caller does then costs no time
  std::function<void(pid_t pid)> on_restored;  // it is whole, and stands still: an exception ends it
};

/// A sandbox whose processes are our children. Throws with nothing left of it.
isolate::Sandbox restore_container(const session::Directories& directories, const isolate::CgroupHost& cgroups, const isolate::Plan& plan,
                                   const RestoreOptions& options);

// ---- mounts ----

/// Of the container's process, judged by the plan that it was made from: what the plan has is made again, the rest is CRIU's to keep.
std::vector<MountPoint> container_mounts(pid_t pid, const isolate::Plan& plan);
/// CRIU's --external of a restore, where isolate/restorer.h has laid the plan's mounts out. Throws when the plan lacks one.
std::vector<std::string> external_of_container(const std::vector<MountPoint>& mounts, const isolate::Plan& plan);

}  // namespace runner::snapshot
