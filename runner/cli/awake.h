// A session that sleeps, is on disk or on standby, for the verbs that want something of it.
#pragma once

#include "isolate/sys/fd.h"
#include "runner/cli/context.h"

namespace runner::cli {

/// The session runs when this returns, and `state` is what it says of itself then; with --sleep-after it is awake as long as the result
/// is open. Empty for a session that has ended and for a container. Throws when it cannot wake.
isolate::sys::Fd awaken(Context& context, const session::Entry& entry, session::State& state);

/// As long as the result is open it does not go to disk, though it may sleep. Empty where it never does.
isolate::sys::Fd keep_in_memory(const session::Entry& entry, const session::State& state);

}  // namespace runner::cli
