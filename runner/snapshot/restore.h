// A session comes out of a snapshot.
#pragma once

#include <map>
#include <string>

#include "isolate/cgroup.h"
#include "isolate/plan.h"
#include "runner/session/directories.h"
#include "runner/snapshot/store.h"
#include "runner/supervise/supervisor.h"

namespace runner::snapshot {

struct RestoreSetting {
  isolate::Plan plan;              // as it is decided today; the snapshot's layers are in its overlay
  isolate::CgroupHost cgroups;
  std::string criu;                // the program
  std::string kind;                // of session.restored: "warm" or "fork"
  bool keeps_workspace = false;    // it wakes: what was copied of its workspace is for others
  Verify verify = Verify::Metadata;
  supervise::StandBy stand_by;     // called once all is laid out and CRIU runs; what it throws ends the restore. Null: no wait
};

/// The snapshot's layers go below the upper one of the plan's overlay. Of a session that wakes the top one is its own upper layer still,
/// and only the parents' are needed.
void put_layers(isolate::Plan& plan, const Snapshot& snapshot, bool wakes);

/// Contexts of `runner code` that it has, and their languages.
std::map<std::string, std::string> contexts_of(const Snapshot& snapshot);

/// Throws, with nothing left behind: BadSnapshot when the bytes are not those that were signed, std::runtime_error for all else.
supervise::Restored restore(const session::Directories& directories, const Snapshot& snapshot, const RestoreSetting& setting);

}  // namespace runner::snapshot
