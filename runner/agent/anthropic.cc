#include "runner/agent/anthropic.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <nlohmann/json.hpp>

#include "runner/agent/json_text.h"
#include "runner/agent/trouble.h"

namespace runner::agent {

namespace {

using nlohmann::json;

constexpr const char* kProvider = "anthropic";

struct Block {
  std::string raw;   // as it began, byte for byte
  std::string type;
  std::string text, signature, arguments;  // what was added since
  std::string id, name;                    // of a call
};

std::string text_of(const json& object, const char* name) {
  auto found = object.find(name);
  return found != object.end() && found->is_string() ? found->get<std::string>() : std::string();
}

json object_of(const json& object, const char* name) {
  auto found = object.find(name);
  return found != object.end() && found->is_object() ? *found : json::object();
}

Block begin(std::string_view raw) {
  json object = json::parse(raw, nullptr, false);
  Block block{.raw = std::string(raw)};
  if (!object.is_object()) return block;
  block.type = text_of(object, "type");
  if (block.type == "text") block.text = text_of(object, "text");
  if (block.type != "tool_use") return block;
  block.id = text_of(object, "id");
  block.name = text_of(object, "name");
  // A stream begins with {}; some servers give all of it here, and no deltas.
  std::string_view input = member(raw, "input");
  if (is_object(input) && object["input"] != json::object()) block.arguments = input;
  return block;
}

// A block that nothing was added to stays as it came. Else the strings in it are as they came, which is all that is signed.
std::string opaque_text(const Block& block) {
  if (block.text.empty() && block.signature.empty() && block.arguments.empty()) return block.raw;
  json object = json::parse(block.raw);
  if (!block.text.empty()) object["thinking"] = text_of(object, "thinking") + block.text;
  if (!block.signature.empty()) object["signature"] = text_of(object, "signature") + block.signature;
  if (is_object(block.arguments)) object["input"] = json::parse(block.arguments);
  return object.dump();
}

}  // namespace

struct AnthropicReader::State {
  explicit State(const Request& request) : model(request.model), ids(request) {}

  std::string model;
  CallIds ids;
  std::map<std::uint64_t, Block> blocks;  // by index
  std::string stop_reason;

  // The counts are cumulative, and what comes later leaves some out.
  static void count(const json& usage, Usage& to) {
    auto take = [&](const char* name, std::uint64_t& count) {
      auto found = usage.find(name);
      if (found != usage.end() && found->is_number_unsigned()) count = std::max(count, found->get<std::uint64_t>());
    };
    take("input_tokens", to.input);
    take("cache_read_input_tokens", to.cache_read);
    take("cache_creation_input_tokens", to.cache_write);
    take("output_tokens", to.output);
  }

  // False when it is of a block that never began.
  bool add(const json& event, const TextSink& tell) {
    auto index = event.find("index");
    auto found = index != event.end() && index->is_number_unsigned() ? blocks.find(index->get<std::uint64_t>()) : blocks.end();
    if (found == blocks.end()) return false;
    Block& block = found->second;
    json delta = object_of(event, "delta");
    std::string type = text_of(delta, "type");
    if (type == "text_delta") {
      block.text += text_of(delta, "text");
      tell(text_of(delta, "text"));
    } else if (type == "input_json_delta") {
      block.arguments += text_of(delta, "partial_json");
    } else if (type == "thinking_delta") {
      block.text += text_of(delta, "thinking");
    } else if (type == "signature_delta") {
      block.signature += text_of(delta, "signature");
    }
    return true;
  }

  Stop stop(bool calls) const {
    if (stop_reason == "pause_turn") return Stop::Pause;
    if (stop_reason == "refusal") return Stop::Refusal;
    if (stop_reason == "model_context_window_exceeded") return Stop::ContextOverflow;
    if (calls) return Stop::ToolCalls;
    return stop_reason == "max_tokens" ? Stop::Length : Stop::Done;
  }
};

AnthropicReader::AnthropicReader(const Request& request, TextSink text)
    : Reader(std::move(text)), state_(std::make_unique<State>(request)) {}

AnthropicReader::~AnthropicReader() = default;

void AnthropicReader::take_event(const SseEvent& event) {
  constexpr std::string_view kOfUse[] = {"message_start", "content_block_start", "content_block_delta", "message_delta", "message_stop", "error"};
  json data = modest(event.data) ? json::parse(event.data, nullptr, false) : json(json::value_t::discarded);
  std::string type = data.is_object() ? text_of(data, "type") : std::string();
  if (type.empty()) type = event.type;
  if (std::find(std::begin(kOfUse), std::end(kOfUse), type) == std::end(kOfUse)) return;  // ping, content_block_stop, what is new
  if (type == "error") return fail(stream_trouble(event.data));
  if (!data.is_object()) return fail(Trouble::Transient, fmt::format("the provider sent an event {} that is not JSON", type));

  if (type == "message_start") {
    State::count(object_of(object_of(data, "message"), "usage"), usage_);
  } else if (type == "content_block_start") {
    auto index = data.find("index");
    std::string_view block = member(event.data, "content_block");
    if (index == data.end() || !index->is_number_unsigned() || !is_object(block))
      return fail(Trouble::Transient, "the provider began a part of its answer without saying which");
    state_->blocks[index->get<std::uint64_t>()] = begin(block);
    if (const Block& begun = state_->blocks[index->get<std::uint64_t>()]; begun.type == "text" && !begun.text.empty()) tell(begun.text);
  } else if (type == "content_block_delta") {
    if (!state_->add(data, [this](std::string_view text) { tell(text); }))
      fail(Trouble::Transient, "the provider went on with a part of its answer that it had not begun");
  } else if (type == "message_delta") {
    State::count(object_of(data, "usage"), usage_);
    if (std::string reason = text_of(object_of(data, "delta"), "stop_reason"); !reason.empty()) state_->stop_reason = reason;
  } else {
    ended(true);
  }
}

void AnthropicReader::take_body(const std::string& text) {
  json body = json::parse(text);
  if (text_of(body, "type") == "error" || body.contains("error")) return fail(stream_trouble(text));
  State::count(object_of(body, "usage"), usage_);
  state_->stop_reason = text_of(body, "stop_reason");
  std::uint64_t index = 0;
  for (std::string_view block : elements(member(text, "content"))) {
    Block& begun = state_->blocks[index++] = begin(block);
    if (begun.type == "text") tell(begun.text);
    if (begun.type == "tool_use" && begun.arguments.empty()) begun.arguments = "{}";
  }
  if (!state_->stop_reason.empty()) ended(true);
}

std::variant<Completion, Failure> AnthropicReader::result() {
  Completion completion{.message = {.role = Role::Assistant}, .usage = usage_};
  bool text = false, calls = false, cut = false;
  for (auto& [index, block] : state_->blocks) {
    if (block.type == "text") {
      text |= block.text.find_first_not_of(" \t\r\n") != std::string::npos;
      if (!block.text.empty()) completion.message.parts.push_back(Text{block.text});
    } else if (block.type == "tool_use") {
      if (block.name.empty()) return Failure{.trouble = Trouble::Transient, .reason = "the provider sent a call without the name of a tool"};
      calls = true;
      cut |= !is_object(block.arguments);
      std::string arguments = block.arguments.empty() ? "{}" : block.arguments;
      completion.message.parts.push_back(ToolCall{state_->ids.take(block.id), block.name, arguments});
    } else {
      completion.message.parts.push_back(Opaque{kProvider, state_->model, opaque_text(block)});
    }
  }
  completion.stop = state_->stop(calls);
  if (cut && state_->stop_reason == "max_tokens")
    return Failure{.trouble = Trouble::Truncated, .reason = "the model's answer reached max_tokens in the middle of a call"};
  // Nobody will run them, and a call without a result must not stay in the history.
  if (completion.stop == Stop::Refusal || completion.stop == Stop::ContextOverflow)
    std::erase_if(completion.message.parts, [](const Part& part) { return std::holds_alternative<ToolCall>(part); });
  if (!text && !calls && (completion.stop == Stop::Done || completion.stop == Stop::Length))
    return Failure{.trouble = Trouble::Empty,
                   .reason = state_->stop_reason == "max_tokens" ? "the model reached max_tokens before it wrote text or a call"
                                                                 : "the model's answer has neither text nor a call"};
  return completion;
}

}  // namespace runner::agent
