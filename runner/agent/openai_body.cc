#include <fmt/format.h>

#include <algorithm>

#include "runner/agent/json_text.h"
#include "runner/agent/openai.h"

namespace runner::agent {

namespace {

using Texts = std::vector<std::string>;

std::string text_part(std::string_view text) { return ObjectText().set("type", "\"text\"").set("text", json_string(text)).text(); }

std::string image_part(const Image& image) {
  std::string url = json_string(fmt::format("data:{};base64,{}", image.mime, image.base64));
  return ObjectText().set("type", "\"image_url\"").set("image_url", ObjectText().set("url", url).text()).text();
}

std::string message_of(std::string_view role, std::string content) {
  return ObjectText().set("role", json_string(role)).set("content", std::move(content)).text();
}

std::string joined(const Texts& lines) { return fmt::format("{}", fmt::join(lines, "\n")); }

void add_assistant(Texts& messages, const Message& message) {
  Texts texts, calls;
  for (const Part& part : message.parts) {
    if (const auto* text = std::get_if<Text>(&part); text && !text->text.empty()) texts.push_back(text->text);
    const auto* call = std::get_if<ToolCall>(&part);
    if (!call) continue;
    // Servers other than OpenAI's parse it, and refuse the whole conversation when it is no object.
    ObjectText function;
    function.set("name", json_string(call->name)).set("arguments", json_string(is_object(call->arguments) ? call->arguments : "{}"));
    calls.push_back(ObjectText().set("id", json_string(call->id)).set("type", "\"function\"").set("function", function.text()).text());
  }
  if (texts.empty() && calls.empty()) return;
  ObjectText object;
  object.set("role", "\"assistant\"").set("content", texts.empty() ? "null" : json_string(joined(texts)));
  if (!calls.empty()) object.set("tool_calls", array_of(calls));
  messages.push_back(object.text());
}

// A result is text only: that it is an error goes before it, and its images follow when all results have been given.
void add_result(Texts& messages, Texts& images, const ToolResult& result) {
  Texts texts;
  std::size_t before = images.size();
  for (const auto& part : result.content) {
    if (const auto* text = std::get_if<Text>(&part)) {
      texts.push_back(text->text);
      continue;
    }
    if (images.size() == before) images.push_back(text_part(fmt::format("Images of the result of call {}:", result.id)));
    images.push_back(image_part(std::get<Image>(part)));
  }
  if (images.size() != before) texts.push_back("(Its images follow.)");
  messages.push_back(ObjectText()
                         .set("role", "\"tool\"")
                         .set("tool_call_id", json_string(result.id))
                         .set("content", json_string((result.is_error ? "Error: " : "") + joined(texts)))
                         .text());
}

void add_user(Texts& messages, Texts parts, bool plain) {
  if (parts.empty()) return;
  // Text alone is a string: not every server knows lists.
  messages.push_back(message_of("user", plain ? parts.front() : array_of(parts)));
}

// The messages of a user and of tools up to the next one of the assistant: all results come first.
void add_others(Texts& messages, const Message* begin, const Message* end) {
  Texts images;
  for (const Message* message = begin; message != end; ++message)
    for (const Part& part : message->parts)
      if (const auto* result = std::get_if<ToolResult>(&part)) add_result(messages, images, *result);
  add_user(messages, images, false);
  for (const Message* message = begin; message != end; ++message) {
    Texts parts;
    bool plain = true;
    const std::string* only = nullptr;
    for (const Part& part : message->parts) {
      if (const auto* image = std::get_if<Image>(&part)) parts.push_back(image_part(*image)), plain = false;
      const auto* text = std::get_if<Text>(&part);
      if (!text || text->text.empty()) continue;
      plain = plain && parts.empty();
      only = &text->text;
      parts.push_back(text_part(text->text));
    }
    if (plain && only) parts = {json_string(*only)};
    add_user(messages, parts, plain && only);
  }
}

std::string messages_of(const Request& request) {
  Texts messages;
  if (!request.system.empty()) messages.push_back(message_of("system", json_string(request.system)));
  const Message* at = request.messages.data();
  const Message* end = at + request.messages.size();
  auto is_assistant = [](const Message& message) { return message.role == Role::Assistant; };
  while (at != end) {
    if (is_assistant(*at)) {
      add_assistant(messages, *at++);
    } else {
      const Message* next = std::find_if(at, end, is_assistant);
      add_others(messages, at, next);
      at = next;
    }
  }
  return array_of(messages);
}

std::string tools_of(const Request& request) {
  Texts tools;
  for (const ToolDefinition& tool : request.tools) {
    ObjectText function;
    function.set("name", json_string(tool.name)).set("description", json_string(tool.description));
    function.set("parameters", is_object(tool.schema) ? tool.schema : R"({"type":"object"})");
    tools.push_back(ObjectText().set("type", "\"function\"").set("function", function.text()).text());
  }
  return array_of(tools);
}

}  // namespace

std::string openai_body(const Request& request, OpenAiLimit limit) {
  std::string_view limit_name = limit == OpenAiLimit::MaxTokens ? "max_tokens" : "max_completion_tokens";
  ObjectText body;
  body.set("model", json_string(request.model)).set("stream", "true").set("stream_options", R"({"include_usage":true})");
  body.set(limit_name, std::to_string(request.max_tokens));
  if (!request.tools.empty()) body.set("tools", tools_of(request));
  body.merge(request.options);
  // A server that is told both refuses.
  if (limit == OpenAiLimit::MaxCompletionTokens && body.has("max_tokens")) body.erase("max_completion_tokens");
  body.erase("messages");  // the conversation is the loop's
  return body.set("messages", messages_of(request)).text();
}

}  // namespace runner::agent
