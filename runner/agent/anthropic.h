// The Messages API of Anthropic, version 2023-06-01, as a stream: agent-loop.md §5.2.
#pragma once

#include <memory>
#include <string>

#include "runner/agent/reader.h"

namespace runner::agent {

/// What is posted. Throws std::invalid_argument when the options of the request are no JSON object.
std::string anthropic_body(const Request& request);

class AnthropicReader : public Reader {
 public:
  explicit AnthropicReader(const Request& request, TextSink text = {});
  ~AnthropicReader() override;

 private:
  struct State;

  void take_event(const SseEvent& event) override;
  void take_body(const std::string& json) override;
  std::variant<Completion, Failure> result() override;

  std::unique_ptr<State> state_;
};

}  // namespace runner::agent
