// The child between clone and exec.
#pragma once

#include <vector>

#include "isolate/link.h"
#include "isolate/mounts.h"
#include "isolate/plan.h"
#include "isolate/seccomp.h"

namespace isolate {

struct StartOptions;

/// What the parent made ready with its own rights before the clone.
struct Handles {
  MountHandles mounts;              // empty when the plan starts without privilege: then the child prepares them
  std::vector<sys::Fd> groups;      // of version 1, which it enters: Cgroup::v1_doors()
  std::vector<sys::Fd> joins;       // one for each of Plan::namespaces, empty where a new one is made
  std::vector<Filter> filters;
  bool hooks = false;               // whether the parent has something to do between Rooted and Pivot
  const StartOptions* options = nullptr;
};

/// From a copy of the parent to the program of the plan. Never returns; reports a failure over the link.
[[noreturn]] void become_program(const Plan& plan, Handles handles, Link link) noexcept;

}  // namespace isolate
