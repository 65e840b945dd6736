// The annotation dev.runner.events of a bundle: a line of JSON for each event of a container's life, as of a session's, goes to a file or to a
// local socket (SOCK_STREAM). There is no process of ours beside a container: each command tells of what it did.
#pragma once

#include "runner/events/types.h"
#include "runner/session/entry.h"

namespace runner::cli {

/// Throws when nothing can be told there: what is asked for is a socket without a listener, or no place for a file.
void check_receiver(const std::string& path);

/// Does nothing where the annotation is missing. A receiver that has gone is a warning on stderr: the event has happened all the same.
void tell(const session::Entry& entry, const session::State& state, const events::Event& event);

}  // namespace runner::cli
