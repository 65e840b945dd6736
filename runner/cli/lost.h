// Sessions whose entry is gone, and whose data is still there: a reboot empties /run.
#pragma once

#include <string>

#include "runner/cli/context.h"

namespace runner::cli {

/// Gives such a session an entry again, as one that has ended: from then on it is like any other. What its log does not say is not
/// known. False when there is none of that id, or its data is of another --root, where it may well run.
bool adopt_lost(Context& context, const std::string& id);
void adopt_all_lost(Context& context);

}  // namespace runner::cli
