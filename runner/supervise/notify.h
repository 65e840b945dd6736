// Telling a service manager: sd_notify(3).
#pragma once

#include <string>

namespace runner::supervise {

/// Sends to $NOTIFY_SOCKET, if there is one: "READY=1", a line for each variable. A manager that does not listen is no fault of the session's.
void notify_manager(const std::string& state);

}  // namespace runner::supervise
