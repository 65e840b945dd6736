// What a call of a tool comes to.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "runner/agent/mcp_results.h"
#include "runner/events/types.h"

namespace runner::agent {

/// How a tool's call came out, with what the event says of it beside.
struct ToolEnd {
  ToolResult result;                   // without the id of the model's call
  std::optional<InputRequired> input;  // of an MCP server that wants to know something first
  std::optional<int> exit, signal;
  std::optional<std::string> verdict;  // a word of events::Result, and a sentence
  std::optional<std::string> reason;
  std::optional<std::uint64_t> cpu_us, memory_peak;
  std::optional<events::Evidence> evidence;
};

}  // namespace runner::agent
