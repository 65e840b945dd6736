// When and where a program runs: sched_setattr(2), sched_setaffinity(2), ioprio_set(2), personality(2).
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "isolate/plan.h"

namespace isolate {

/// "0-2,5", as cpuset(7) has it. Empty when it is no such list.
std::optional<std::vector<unsigned>> parse_cpu_list(const std::string& text);

/// All CPUs that the cgroup allows, whatever the caller was bound to: what taskset(1) did to an engine is not meant for a container.
void reset_affinity();
void set_affinity(const std::string& cpus);

/// What the process asks for, with the rights that this may need (CAP_SYS_NICE).
void set_scheduling(const Process& process);

}  // namespace isolate
