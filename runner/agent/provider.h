// Who answers a request: a model over HTTP, a script, or a recording.
#pragma once

#include <functional>
#include <string_view>
#include <variant>

#include "runner/agent/message.h"

namespace runner::agent {

/// What is told of a generation while it runs. `text` is of the model: untrusted.
struct Progress {
  std::function<void(std::string_view text)> text = [](std::string_view) {};
  /// The raw bytes of the body, for the recording, with the milliseconds since the request went out.
  std::function<void(std::uint64_t ms, std::string_view bytes)> chunk = [](std::uint64_t, std::string_view) {};
};

class Provider {
 public:
  virtual ~Provider() = default;
  /// One attempt. Throws only when this side is broken; what goes wrong over there is a Failure.
  virtual std::variant<Completion, Failure> generate(const Request& request, const Progress& progress) = 0;
};

}  // namespace runner::agent
