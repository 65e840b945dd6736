// A new name for a session that has ended.
//
// Its entry moves first, in one rename(2): from then on it is the new name's, and before it nothing has happened. What follows
// (its data, the id in its state) is written down in <run>/.renaming before, whose lock the renamer holds until all is done. Every
// command looks for that file first: it waits for a living renamer, and finishes the work of a dead one.
#pragma once

#include <string>

#include "runner/session/entry.h"

namespace runner::session {

/// `entry` is locked by the caller, and its session has ended. Throws EEXIST when the name is taken.
void rename_session(const Directories& directories, const Entry& entry, const std::string& name);

/// Costs one access(2) when nobody is renaming. False when a renamer lives and does not go on: somebody has stopped it.
bool finish_rename(const Directories& directories);

}  // namespace runner::session
