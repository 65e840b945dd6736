// A session that sleeps when nothing happens in it (`run --sleep-after`), for the verbs that want something of it.
#pragma once

#include "isolate/sys/fd.h"
#include "runner/session/entry.h"

namespace runner::cli {

/// Such a session is awake as long as the result is open. Empty, and nothing is done, for all others and for one that has ended.
isolate::sys::Fd keep_awake(const session::Entry& entry, const session::State& state);

}  // namespace runner::cli
