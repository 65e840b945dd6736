// What a server answers to a call, made into what a model is shown.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "runner/agent/mcp_messages.h"
#include "runner/agent/message.h"

namespace runner::agent {

/// The server wants to know something first. The call ends with this; one with a new id, this state and the answers goes on with it.
struct InputRequired {
  std::string request_state;   // JSON that is sent back as it is; empty: none
  std::string input_requests;  // a JSON object: key to {"method":…,"params":…}; empty: none, ask again at once
  bool operator==(const InputRequired&) const = default;
};

struct CallOutcome {
  ToolResult result;  // without the id of the model's call. Of a call that wants input: nothing
  std::optional<InputRequired> input;
  bool timed_out = false;  // the result says so too
};

/// An error result of one sentence.
CallOutcome failed_call(std::string sentence);

/// The line is a reply, as hear() knows them. Texts are cut at kLongestText in all.
CallOutcome read_call(std::string_view line, Era era);

}  // namespace runner::agent
