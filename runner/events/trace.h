// W3C Trace Context, https://www.w3.org/TR/trace-context/: the value of TRACEPARENT, "version-trace-parent-flags".
#pragma once

#include <string>
#include <string_view>

#include "runner/events/writer.h"

namespace runner::events {

bool valid_traceparent(std::string_view text);

/// The trace of the parent, or a new one where the parent is not valid, with a span of its own.
std::string child_traceparent(std::string_view parent, const Sources& sources = real_sources());

/// $TRACEPARENT, or empty.
std::string caller_traceparent();

}  // namespace runner::events
