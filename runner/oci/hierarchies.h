// What a container sees at /sys/fs/cgroup where the host has hierarchies of cgroup v1.
#pragma once

#include <string>

#include "isolate/cgroup.h"
#include "isolate/plan.h"

namespace runner::oci {

/// Puts a folder for each hierarchy in place of a CgroupView, as runc does: in it is `group`, the container's own path in all of them. Programs that
/// look for their limits (memory/memory.limit_in_bytes) find them there. Nothing changes with cgroup v2 alone.
void show_hierarchies(isolate::Plan& plan, const std::string& group, const isolate::CgroupHost& host);

}  // namespace runner::oci
