// The wall clock, as text.
#pragma once

#include <string>

namespace runner::session {

std::string rfc3339_now();  ///< "2026-11-20T10:00:00.123456Z"

}  // namespace runner::session
