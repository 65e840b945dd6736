// What is made of everything that goes wrong with a model: agent-loop.md §5.4.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "runner/agent/message.h"

namespace runner::agent {

using Headers = std::vector<std::pair<std::string, std::string>>;

/// At most `most` bytes of what somebody else wrote, fit for a line of a terminal: valid UTF-8 without control characters.
std::string clipped(std::string_view text, std::size_t most = 500);

/// Of an answer whose status is not 2xx. `now` is in seconds of the Unix time: retry-after may be a date.
Failure http_trouble(int status, const Headers& headers, std::string_view body, std::int64_t now);

/// Of an error that came inside an answer with status 200: the JSON of the event or of the body.
Failure stream_trouble(std::string_view json);

/// Of the connection, by the class that runner-model gives it: see runner/agent/model/protocol.h.
Failure transport_trouble(std::string_view kind, std::string_view message);

/// Whether another attempt may help at all. How many there are is the caller's choice.
bool worth_retrying(const Failure& failure);

/// The wait before attempt `attempt` + 1, counted from 0, where the provider asked for none. `random` is any number.
std::uint64_t backoff_ms(unsigned attempt, std::uint64_t random);

}  // namespace runner::agent
