// A job goes on from an older checkpoint: agent-loop.md §4.7.
#pragma once

#include <string>

#include "runner/agent/store.h"

namespace runner::agent {

/// Makes a branch of its own behind the checkpoint `from` ("<seq>-<id>"), which HEAD then names. What was done since stays on the disk; what was
/// spent since is spent, and no number that was given to a call, a generation or a delegate is given again. Throws for one that ended the job.
void branch_off(const Store& store, const Journal& journal, Ledger& ledger, const std::string& job, const std::string& from);

}  // namespace runner::agent
