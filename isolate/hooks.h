// Hooks of the OCI runtime specification: programs of the caller that run at fixed moments.
#pragma once

#include <string>
#include <vector>

#include "isolate/plan.h"

namespace isolate {

/// Runs them in order with `state` on their standard input; the first that fails, or outlives its timeout, ends it
/// with an exception that names it and what it has printed. They run in the namespaces of the caller; inside a container through runner-exec
/// (`step`). A hook that has no environment of its own gets `env`, or the caller's.
void run_hooks(const std::vector<Hook>& hooks, const char* kind, const std::string& state, int step = -1, const std::vector<std::string>* env = nullptr);

}  // namespace isolate
