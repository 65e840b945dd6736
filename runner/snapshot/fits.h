// Whether this host, and what is decided for the session today, are what the processes of a snapshot were stopped on.
#pragma once

#include <stdexcept>
#include <string>

#include "isolate/plan.h"
#include "runner/snapshot/manifest.h"

namespace runner::snapshot {

/// The reason why it is not, in a sentence.
class Unfit : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

/// `plan`: with the snapshot's layers. `filters`: of today, as supervise::describe_filters() has them. Throws Unfit; nothing has run by then.
/// Files that processes map are compared by build id where they have one: some 20 µs each.
void check_fits(const Manifest& manifest, const isolate::Plan& plan, const std::string& filters);

/// Where the host has what the plan shows at `path`, a path without symbolic links; empty when nothing is there.
std::string host_path(const isolate::Plan& plan, const std::string& path);

}  // namespace runner::snapshot
