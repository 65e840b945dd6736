#include "runner/agent/openai.h"

#include <fmt/format.h>

#include <algorithm>
#include <deque>
#include <nlohmann/json.hpp>

#include "runner/agent/json_text.h"
#include "runner/agent/trouble.h"

namespace runner::agent {

namespace {

using nlohmann::json;

struct Slot {
  std::optional<std::uint64_t> index;
  std::string id, name, arguments;
};

const json& at(const json& object, const char* name) {
  static const json nothing;
  if (!object.is_object()) return nothing;
  auto found = object.find(name);
  return found != object.end() ? *found : nothing;
}

std::string text_of(const json& value) { return value.is_string() ? value.get<std::string>() : std::string(); }

std::uint64_t count_of(const json& value) { return value.is_number_unsigned() ? value.get<std::uint64_t>() : 0; }

// A string; or, from some, a list of parts with text.
std::string content_of(const json& content) {
  std::string text = text_of(content);
  if (content.is_array())
    for (const json& part : content) text += text_of(at(part, "text"));
  return text;
}

Usage usage_of(const json& told) {
  std::uint64_t whole = count_of(at(told, "prompt_tokens"));
  std::uint64_t cached = count_of(at(at(told, "prompt_tokens_details"), "cached_tokens"));
  if (!cached) cached = count_of(at(told, "prompt_cache_hit_tokens"));
  cached = std::min(cached, whole);  // the whole includes it
  return {.input = whole - cached,
          .cache_read = cached,
          .output = count_of(at(told, "completion_tokens")),
          .reasoning = count_of(at(at(told, "completion_tokens_details"), "reasoning_tokens"))};
}

}  // namespace

struct OpenAiReader::State {
  explicit State(const Request& request) : ids(request) {}

  CallIds ids;
  std::string text, finish;
  bool refused = false;
  std::deque<Slot> slots;  // in the order in which they began

  // Which call a fragment belongs to. By the standard its index says so; but there are servers that give none or always 0, that repeat
  // the name with every fragment, and that use one id for all. So what cannot be of the same call opens another one.
  Slot& slot_of(const json& fragment, const std::string& id, const std::string& name) {
    std::optional<std::uint64_t> index;
    if (at(fragment, "index").is_number_unsigned()) index = count_of(at(fragment, "index"));

    auto last = [&](auto matches) {
      auto found = std::find_if(slots.rbegin(), slots.rend(), matches);
      return found == slots.rend() ? nullptr : &*found;
    };
    Slot* slot = id.empty() ? nullptr : last([&](const Slot& s) { return s.id == id; });
    if (slot && index && slot->index && *index != *slot->index) slot = nullptr;
    if (!slot && index) slot = last([&](const Slot& s) { return s.index == index; });
    if (!slot && (!index || (id.empty() && name.empty())) && !slots.empty()) slot = &slots.back();

    bool other_id = slot && !id.empty() && !slot->id.empty() && slot->id != id;
    bool other_name = slot && !name.empty() && !slot->name.empty() && slot->name != name;
    bool complete = slot && id.empty() && !name.empty() && !slot->name.empty() && is_object(slot->arguments);
    if (!slot || other_id || other_name || complete) {
      slots.push_back({.index = index});
      slot = &slots.back();
    }
    if (slot->id.empty()) slot->id = id;
    if (slot->name.empty()) slot->name = name;
    return *slot;
  }

  void take_calls(const json& calls) {
    if (!calls.is_array()) return;
    for (const json& fragment : calls) {
      const json& function = at(fragment, "function");
      const json& arguments = at(function, "arguments");
      Slot& slot = slot_of(fragment, text_of(at(fragment, "id")), text_of(at(function, "name")));
      if (arguments.is_object()) slot.arguments = arguments.dump();
      else slot.arguments += text_of(arguments);
    }
  }

  // A chunk of a stream, or a whole answer; `part` is "delta" or "message".
  void take(const json& chunk, const char* part, const TextSink& tell) {
    const json& choices = at(chunk, "choices");
    if (!choices.is_array()) return;
    for (const json& choice : choices) {
      if (count_of(at(choice, "index")) != 0) continue;  // one answer is all that was asked for
      const json& delta = at(choice, part);
      std::string content = content_of(at(delta, "content")), refusal = text_of(at(delta, "refusal"));
      refused |= !refusal.empty();
      content += refusal;
      text += content;
      if (!content.empty()) tell(content);
      take_calls(at(delta, "tool_calls"));
      if (std::string reason = text_of(at(choice, "finish_reason")); !reason.empty()) finish = reason;
    }
  }
};

OpenAiReader::OpenAiReader(const Request& request, TextSink text) : Reader(std::move(text)), state_(std::make_unique<State>(request)) {}

OpenAiReader::~OpenAiReader() = default;

void OpenAiReader::take_event(const SseEvent& event) {
  if (event.data == "[DONE]") return ended(true);
  if (event.type == "error") return fail(stream_trouble(event.data));
  if (event.data.find_first_not_of(" \t\r\n") == std::string::npos) return;
  json chunk = modest(event.data) ? json::parse(event.data, nullptr, false) : json(json::value_t::discarded);
  if (!chunk.is_object()) return fail(Trouble::Transient, "the provider sent an event that is not a JSON object");
  if (!at(chunk, "error").is_null()) return fail(stream_trouble(event.data));
  if (const json& usage = at(chunk, "usage"); usage.is_object()) usage_ = usage_of(usage);
  state_->take(chunk, "delta", [this](std::string_view text) { tell(text); });
  if (!state_->finish.empty()) ended(false);  // the usage may follow
}

void OpenAiReader::take_body(const std::string& text) {
  json body = json::parse(text);
  if (!at(body, "error").is_null()) return fail(stream_trouble(text));
  usage_ = usage_of(at(body, "usage"));
  state_->take(body, "message", [this](std::string_view piece) { tell(piece); });
  if (at(body, "choices").is_array()) ended(true);
}

// By what is there, not by what finish_reason says: "stop" comes with calls, and "tool_calls" without.
std::variant<Completion, Failure> OpenAiReader::result() {
  const std::string& finish = state_->finish;
  if (finish == "error") return Failure{.trouble = Trouble::Transient, .reason = "the provider broke off its answer"};
  Completion completion{.message = {.role = Role::Assistant}, .usage = usage_};
  bool refused = state_->refused || finish == "content_filter";
  bool has_text = state_->text.find_first_not_of(" \t\r\n") != std::string::npos;
  if (!state_->text.empty()) completion.message.parts.push_back(Text{state_->text});
  if (refused) {
    completion.stop = Stop::Refusal;  // its calls are dropped: nobody will run them
    return completion;
  }
  for (Slot& slot : state_->slots) {
    if (slot.name.empty()) return Failure{.trouble = Trouble::Transient, .reason = "the provider sent a call without the name of a function"};
    if (finish == "length" && !is_object(slot.arguments))
      return Failure{.trouble = Trouble::Truncated, .reason = "the model's answer reached its largest length in the middle of a call"};
    completion.message.parts.push_back(ToolCall{state_->ids.take(slot.id), slot.name, slot.arguments.empty() ? "{}" : slot.arguments});
  }
  if (!state_->slots.empty()) completion.stop = Stop::ToolCalls;
  else if (finish == "length") completion.stop = Stop::Length;
  if (!has_text && state_->slots.empty()) return Failure{.trouble = Trouble::Empty, .reason = "the model's answer has neither text nor a call"};
  return completion;
}

}  // namespace runner::agent
