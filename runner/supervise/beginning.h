// What a supervisor has to say before its session runs.
#pragma once

#include "runner/supervise/supervisor.h"
#include "runner/supervise/calls.h"

namespace runner::supervise {

/// The decided limits are in it, with their units: bytes, CPUs, milliseconds, processes.
events::SessionStarted first_event(const Request& request, const std::string& id);

/// Runs the hooks of /etc/runner/restore.d, in one call, as the session's user; what they print and how they fail is in the log.
CallRequest restore_hooks(const isolate::Process& process);
inline constexpr const char* kRestoreHooks = "/etc/runner/restore.d";

}  // namespace runner::supervise
