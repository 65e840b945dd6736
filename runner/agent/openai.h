// Chat Completions as OpenAI has defined them and others serve them, as a stream: agent-loop.md §5.3.
#pragma once

#include <memory>
#include <string>

#include "runner/agent/reader.h"

namespace runner::agent {

/// The name of the limit of tokens: servers know one or the other.
enum class OpenAiLimit { MaxCompletionTokens, MaxTokens };

/// What is posted. Throws std::invalid_argument when the options of the request are no JSON object.
std::string openai_body(const Request& request, OpenAiLimit limit = OpenAiLimit::MaxCompletionTokens);

class OpenAiReader : public Reader {
 public:
  explicit OpenAiReader(const Request& request, TextSink text = {});
  ~OpenAiReader() override;

 private:
  struct State;

  void take_event(const SseEvent& event) override;
  void take_body(const std::string& json) override;
  std::variant<Completion, Failure> result() override;

  std::unique_ptr<State> state_;
};

}  // namespace runner::agent
