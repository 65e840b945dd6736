// A model behind HTTP, by way of runner-model, which holds the key and the connection: see runner/agent/model/protocol.h.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "isolate/sys/fd.h"
#include "runner/agent/openai.h"
#include "runner/agent/provider.h"

namespace runner::agent {

enum class Api { Anthropic, OpenAi };

/// The path that requests go to, from the base URL that a user gives: "https://host", "https://host/v1/", "http://host/api/v1". A path
/// that names a version is followed by messages or chat/completions; any other one by v1/ first.
std::string api_path(Api api, std::string_view base_url);

class HttpProvider : public Provider {
 public:
  struct Setup {
    isolate::sys::Fd socket;  // a stream, to runner-model
    Api api = Api::Anthropic;
    std::string base_url;     // or its path alone
    std::uint64_t total_ms = 300'000;
    std::uint64_t first_byte_ms = 120'000, idle_ms = 60'000;
    int cancel_fd = -1;       // readable when the generation under way is to be given up, such as a signalfd; it is not read from
  };

  explicit HttpProvider(Setup setup);

  std::variant<Completion, Failure> generate(const Request& request, const Progress& progress) override;

 private:
  std::variant<Completion, Failure> attempt(const Request& request, const Progress& progress);

  Setup setup_;
  std::string path_;
  OpenAiLimit limit_ = OpenAiLimit::MaxCompletionTokens;
};

}  // namespace runner::agent
