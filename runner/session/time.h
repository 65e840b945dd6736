// The wall clock, as text.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

namespace runner::session {

std::string rfc3339_now();  ///< "2026-11-20T10:00:00.123456Z"
std::optional<std::int64_t> parse_rfc3339(const std::string& text);  ///< seconds since 1970; empty when it is none of ours

}  // namespace runner::session
