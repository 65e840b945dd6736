// What a conversation consists of, whatever the provider: what the loop holds, checkpoints store and providers translate.
// JSON stays text here: arguments as the model wrote them, perhaps invalid; schemas as the tool gave them.
#pragma once

#include <cstdint>
#include <string>
#include <variant>
#include <vector>

namespace runner::agent {

struct Text {
  std::string text;  // UTF-8
  bool operator==(const Text&) const = default;
};

struct Image {
  std::string mime, base64;
  bool operator==(const Image&) const = default;
};

struct ToolCall {
  std::string id, name;
  std::string arguments;  // JSON as it came: an object, if the model kept to the schema
  bool operator==(const ToolCall&) const = default;
};

struct ToolResult {
  std::string id;  // of its call
  bool is_error = false;
  std::vector<std::variant<Text, Image>> content;
  bool operator==(const ToolResult&) const = default;
};

/// Thinking, signatures: stored as they came, and sent back to the same provider and model only, byte for byte.
struct Opaque {
  std::string provider, model, json;
  bool operator==(const Opaque&) const = default;
};

using Part = std::variant<Text, Image, ToolCall, ToolResult, Opaque>;

enum class Role { User, Assistant, Tool };  // Tool: the results of one assistant message, one for each of its calls

struct Message {
  Role role = Role::User;
  std::vector<Part> parts;
  bool operator==(const Message&) const = default;
};

struct ToolDefinition {
  std::string name, description;
  std::string schema;  // of its arguments: a JSON object
  bool operator==(const ToolDefinition&) const = default;
};

/// Tokens. The whole input is the sum of the first three; reasoning is a part of output.
struct Usage {
  std::uint64_t input = 0, cache_read = 0, cache_write = 0, output = 0, reasoning = 0;
  bool operator==(const Usage&) const = default;
};

enum class Stop { Done, ToolCalls, Length, Refusal, Pause, ContextOverflow };

/// What a model is asked. No credential is part of it.
struct Request {
  std::string model, system;
  std::vector<ToolDefinition> tools;  // sorted by name: caches and replays depend on it
  std::vector<Message> messages;
  std::uint64_t max_tokens = 8192;
  std::string options;  // a JSON object that is merged into the body, such as {"thinking":{"type":"adaptive"}}; empty: none
};

struct Completion {
  Message message;  // of the assistant
  Stop stop = Stop::Done;
  Usage usage;
};

/// Why a generation gave nothing that can be used, and so what is to be done: agent-loop.md §5.4.
enum class Trouble {
  Transient,  // try again
  Overflow,   // the context is too long: stop
  Permanent,  // stop
  Truncated,  // a call was cut off by max_tokens: once more with a larger one
  Empty,      // neither text nor a call: at most twice more
  Timeout,    // as Transient
};

struct Failure {
  Trouble trouble = Trouble::Permanent;
  std::string reason;            // a sentence, with what the provider said
  int status = 0;                // of HTTP; 0: none was received
  std::uint64_t retry_after = 0; // milliseconds that the provider asked to wait; 0: it did not say
  bool must_not_retry = false;   // x-should-retry: false
  Usage usage;                   // as far as it was told
};

}  // namespace runner::agent
