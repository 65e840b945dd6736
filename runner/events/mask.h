// The one mask under which two runs of the same thing give the same stream: agent-loop.md §5.5. For golden tests.
#pragma once

#include <string>
#include <string_view>

namespace runner::events {

/// Blanks `id`, `time` and `traceparent` of the envelope, and in the data durations and process ids, which become 0.
/// `prev` is computed again over `previous`, the masked line before (empty for the first), with a key of zeros.
/// Lines are without their newline. Throws when the line is not an event.
std::string mask_line(std::string_view line, std::string_view previous);

/// Every line of a stream.
std::string mask_stream(std::string_view lines);

}  // namespace runner::events
