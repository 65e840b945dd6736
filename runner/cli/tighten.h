// The annotation dev.runner.policy of a bundle: a policy holds for a container too, as far as a container has what it speaks of.
#pragma once

#include <string>

#include "runner/oci/config.h"

namespace runner::cli {

/// What policy `name` says of capabilities, system calls, rlimits, memory, CPUs and processes is the most that the container gets; what
/// its config.json allows beyond is taken away, and no_new_privs is set. Mounts, users and namespaces stay as the bundle has them, and a
/// container has no limits of time, output or disk. Throws when there is no such policy.
void tighten(oci::Container& container, const std::string& name);

}  // namespace runner::cli
