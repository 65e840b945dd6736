// The workspace in a snapshot, where it lies outside of the session's layer: a folder of the host, a volume, or a folder of the session's
// own. policy `workspace: {snapshot: share|copy|exclude}`, of when the session was started, decides.
#pragma once

#include <string>

#include "isolate/disk.h"
#include "isolate/plan.h"
#include "runner/snapshot/layers.h"
#include "runner/snapshot/store.h"

namespace runner::snapshot {

/// With `copy`, its files become layers/workspace of the draft, under the ids that the session sees; files of others are nobody's there.
/// What is mounted below it is left out, but for a workspace that is a file system of its own. `record` is the session's, which stands
/// still; others who write to the same folder do not.
CopiedLayer copy_workspace(const std::string& record, Draft& draft);

/// Whether a session that comes out of it has a folder of its own there, with the copy in it or empty.
bool has_own_workspace(const Snapshot& snapshot);

/// Where its processes see it.
std::string workspace_in(const Snapshot& snapshot);

/// The copy becomes the workspace of such a session. Without one nothing is done. `disk` is its quota's.
void fill_workspace(const Snapshot& snapshot, const isolate::Plan& plan, const isolate::Disk& disk);

/// The plan as it will be: what is to be copied is looked for where it still is.
isolate::Plan before_filling(const Snapshot& snapshot, isolate::Plan plan);

}  // namespace runner::snapshot
