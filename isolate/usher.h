// The birth of a sandbox in a user namespace that is there already, as all containers of a pod but the first: user_namespaces(7).
//
// A namespace belongs to the user namespace that its maker is in, and only who has rights there may mount in it or name its host. Who
// joins a user namespace has none left elsewhere, and never comes back: so it is not we who join, but a process of ours, the usher.
// What that clones is our child (CLONE_PARENT), in the namespaces that the plan joins and the new ones that it makes.
#pragma once

#include <vector>

#include "isolate/plan.h"
#include "isolate/sys/child.h"

namespace isolate {

bool joins_user_namespace(const Plan& plan);

/// As clone_process(): returns an empty Child in the child. `joins` has a descriptor for each namespace that the plan joins; that of
/// pids is the caller's to join. The user is still the caller's, who has no id inside.
sys::Child clone_through_usher(const Plan& plan, const std::vector<sys::Fd>& joins, int cgroup);

}  // namespace isolate
