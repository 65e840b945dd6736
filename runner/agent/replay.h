// A recorded job in the place of a model: agent-loop.md §5.5.
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <string>

#include "runner/agent/provider.h"
#include "runner/agent/state.h"
#include "runner/agent/tool_end.h"

namespace runner::agent {

struct Recorded {
  std::string request_sha256, head;  // head: all of the request but its messages, canonical JSON
  std::size_t first_message = 0;
  std::string messages;              // a JSON array: those that were new
  Completion completion;
};

struct Recording {
  std::map<std::string, Recorded> generations;   // "RUN/N"
  std::map<std::string, std::string> results;    // of tools, by key of the call, as the journal has them
  std::map<std::string, std::string> told;       // and the data of tool.call.finished
};

/// What a call came to then; empty for one that was not made.
std::optional<ToolEnd> recorded_end(const Recording& recording, const std::string& call);

/// Of a job's folder. Throws when there is none, or a part of it is missing.
Recording load_recording(const std::string& folder);

/// Gives each request the recorded answer. One that differs from the recorded one is a permanent failure that names where, by JSON pointer.
std::unique_ptr<Provider> replay_provider(const Recording& recording, const Run& run);

}  // namespace runner::agent
