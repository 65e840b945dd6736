// Who the processes of a restored tree are, before any of them runs: a few bytes of an image decide that, and a signature may be made with a
// stolen key.
#pragma once

#include <sys/types.h>

#include <vector>

#include "isolate/plan.h"

namespace runner::snapshot {

/// Every thread of the tree below `root`, which is stopped, has at most what the plan gives: its ids, capabilities, no_new_privs, seccomp
/// filters, namespaces of its own and a place in `group` (all processes there; those of `restorer` are not of the tree). Throws Unfit.
void check_identity(const isolate::Plan& plan, pid_t root, pid_t restorer, const std::vector<pid_t>& group);

}  // namespace runner::snapshot
