// What the verbs of a session's life have in common: to find it, to end it, to remove it.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "isolate/sys/child.h"
#include "isolate/sys/fd.h"
#include "runner/cli/context.h"

namespace runner::cli {

/// A session and what its state.json said just now. Its lock is free unless its supervisor, or another command, holds it.
struct Found {
  session::Entry entry;
  session::State state;
};

/// Throws when there is none of that id, or a container. One that is just being made is waited for; one whose supervisor died is
/// ended from now on, with the result "runner-error".
Found find_session(Context& context, const std::string& id);

/// All that are there, containers left out.
std::vector<Found> all_sessions(Context& context);

/// "running", "paused", "stopped", ...
std::string status_of(Context& context, const session::State& state);

/// Thaws it and sends the signal to its first process, which hands it on to the program. 0 sends none.
void signal_session(Context& context, const session::State& state, int number);
/// Waits for the end of its processes until `deadline`, then kills them all; returns when its supervisor has written the end.
void end_session(Context& context, const std::string& id, const session::State& state, std::int64_t deadline);
/// Whether that very session has not ended yet: not one that got its name later. Finds out when its supervisor has died.
bool goes_on(Context& context, const std::string& id, const session::State& was);
/// The snapshot that a session is suspended into.
inline std::string suspension_of(const std::string& id) { return id + ".suspended"; }
/// Entry and data of one that has ended. The entry is locked by the caller.
void remove_session(Context& context, session::Entry& entry, const session::State& state);
/// Its lock, for whoever wants to change an ended session: a sweep has it for moments. False when it is gone.
bool lock_ended(session::Entry& entry);

/// This program with other words, in a process of its own, which may use another CPU; its stdin is empty. -1: stays as it is.
isolate::sys::Child start_self(Context& context, std::vector<std::string> words, int out, int err);

/// Does `act` for each id and goes on after a failure, which is reported. Returns the exit status.
int for_each_id(Context& context, const std::vector<std::string>& ids,
                const std::function<void(const std::string&)>& act);

}  // namespace runner::cli
