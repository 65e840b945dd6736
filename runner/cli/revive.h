// A session comes to life from a snapshot: what restore, fork and wake share.
#pragma once

#include <string>

#include "runner/cli/context.h"
#include "runner/snapshot/store.h"

namespace runner::cli {

struct Revival {
  std::string snapshot, id;
  bool rm = false, detach = false, interactive = false;
  std::string output;
  int events_fd = -1;
  snapshot::Verify verify = snapshot::Verify::Metadata;
  session::Entry* wakes = nullptr;  // see Origin
};

/// The whole life of it, or, detached, its beginning; the exit status.
int revive(Context& context, const Revival& how);

snapshot::Verify read_verify(const std::string& word);  ///< throws UsageError

/// What a request does with a session that is on disk. False when it is not; throws when it cannot wake.
bool wake_if_suspended(Context& context, const session::State& state);

}  // namespace runner::cli
