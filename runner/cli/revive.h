// A session comes to life from a snapshot: what restore, fork and wake share.
#pragma once

#include <string>
#include <vector>

#include "runner/cli/context.h"
#include "runner/snapshot/store.h"
#include "runner/snapshot/take.h"

namespace runner::cli {

struct Revival {
  std::string snapshot, id;
  bool rm = false, detach = false, interactive = false, standby = false, cold = false;
  std::string output;
  int events_fd = -1;
  snapshot::Verify verify = snapshot::Verify::Metadata;
  session::Entry* wakes = nullptr;  // see Origin
  std::vector<std::string> volumes;  // HOST:INSIDE[:ro], instead of what was mounted there
};

/// The whole life of it, or, detached, its beginning; the exit status.
int revive(Context& context, const Revival& how);

snapshot::Verify read_verify(const std::string& word);  ///< throws UsageError

/// For a snapshot of that session: without a name it is called SESSION-TIME, and nobody's.
snapshot::TakeOptions take_options(Context& context, const session::Entry& entry, const std::string& name);


}  // namespace runner::cli
