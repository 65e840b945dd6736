#include <algorithm>

#include "runner/agent/anthropic.h"
#include "runner/agent/json_text.h"

namespace runner::agent {

namespace {

using Blocks = std::vector<std::string>;

struct Turn {
  bool user = false;
  Blocks results, rest;
};

// The API refuses text blocks without anything to read.
bool blank(std::string_view text) { return text.find_first_not_of(" \t\r\n") == std::string_view::npos; }

// Ids of other providers may hold what this one refuses. The same for a call and its result.
std::string id_of(std::string id) {
  for (char& c : id)
    if (!(c >= 'a' && c <= 'z') && !(c >= 'A' && c <= 'Z') && !(c >= '0' && c <= '9') && c != '-') c = '_';
  return json_string(id);
}

std::string text_block(std::string_view text) { return ObjectText().set("type", "\"text\"").set("text", json_string(text)).text(); }

std::string block(const Image& image) {
  ObjectText source;
  source.set("type", "\"base64\"").set("media_type", json_string(image.mime)).set("data", json_string(image.base64));
  return ObjectText().set("type", "\"image\"").set("source", source.text()).text();
}

// What the model wrote that is no object has its error in the result; the API takes nothing but an object.
std::string block(const ToolCall& call) {
  return ObjectText()
      .set("type", "\"tool_use\"")
      .set("id", id_of(call.id))
      .set("name", json_string(call.name))
      .set("input", is_object(call.arguments) ? call.arguments : "{}")
      .text();
}

std::string block(const ToolResult& result) {
  Blocks content;
  for (const auto& part : result.content) {
    if (const auto* text = std::get_if<Text>(&part); !text) content.push_back(block(std::get<Image>(part)));
    else if (!blank(text->text)) content.push_back(text_block(text->text));
  }
  ObjectText object;
  object.set("type", "\"tool_result\"").set("tool_use_id", id_of(result.id)).set("is_error", result.is_error ? "true" : "false");
  if (!content.empty()) object.set("content", array_of(content));
  return object.text();
}

bool thinking(std::string_view opaque) {
  std::string_view type = member(opaque, "type");
  return type == "\"thinking\"" || type == "\"redacted_thinking\"";
}

// All of a message's opaque parts or none: a part of them would be refused, or worse, understood.
bool ours(const Message& message, const std::string& model) {
  return std::all_of(message.parts.begin(), message.parts.end(), [&](const Part& part) {
    const auto* opaque = std::get_if<Opaque>(&part);
    return !opaque || (opaque->provider == "anthropic" && opaque->model == model && is_object(opaque->json));
  });
}

// In the order in which they came, which begins with thinking. Where it does not, somebody has sorted them, and thinking goes first.
Turn assistant(const Message& message, const std::string& model) {
  Blocks thoughts, rest;
  bool keep = ours(message, model);
  const auto* first = message.parts.empty() ? nullptr : std::get_if<Opaque>(&message.parts.front());
  bool in_order = first && keep && thinking(first->json);
  for (const Part& part : message.parts) {
    if (const auto* opaque = std::get_if<Opaque>(&part)) {
      if (keep) (!in_order && thinking(opaque->json) ? thoughts : rest).push_back(opaque->json);
    } else if (const auto* call = std::get_if<ToolCall>(&part)) {
      rest.push_back(block(*call));
    } else if (const auto* text = std::get_if<Text>(&part); text && !blank(text->text)) {
      rest.push_back(text_block(text->text));
    }
  }
  thoughts.insert(thoughts.end(), rest.begin(), rest.end());
  return Turn{.rest = std::move(thoughts)};
}

void add_user(Turn& turn, const Message& message) {
  for (const Part& part : message.parts) {
    if (const auto* result = std::get_if<ToolResult>(&part)) turn.results.push_back(block(*result));
    else if (const auto* image = std::get_if<Image>(&part)) turn.rest.push_back(block(*image));
    else if (const auto* text = std::get_if<Text>(&part); text && !blank(text->text)) turn.rest.push_back(text_block(text->text));
  }
}

std::string messages_of(const Request& request) {
  std::vector<Turn> turns;
  for (const Message& message : request.messages) {
    if (message.role == Role::Assistant) {
      if (Turn turn = assistant(message, request.model); !turn.rest.empty()) turns.push_back(std::move(turn));
    } else {
      // Results, and what a person says after them, are one message.
      if (turns.empty() || !turns.back().user) turns.push_back({.user = true});
      add_user(turns.back(), message);
    }
  }
  std::vector<std::string> texts;
  for (Turn& turn : turns) {
    turn.results.insert(turn.results.end(), turn.rest.begin(), turn.rest.end());
    const Blocks& content = turn.user ? turn.results : turn.rest;
    if (content.empty()) continue;
    texts.push_back(ObjectText().set("role", turn.user ? "\"user\"" : "\"assistant\"").set("content", array_of(content)).text());
  }
  return array_of(texts);
}

std::string system_of(const std::string& system) {
  ObjectText block;
  block.set("type", "\"text\"").set("text", json_string(system)).set("cache_control", R"({"type":"ephemeral"})");
  return array_of({block.text()});
}

std::string tools_of(const Request& request) {
  std::vector<std::string> tools;
  for (const ToolDefinition& tool : request.tools)
    tools.push_back(ObjectText()
                        .set("name", json_string(tool.name))
                        .set("description", json_string(tool.description))
                        .set("input_schema", is_object(tool.schema) ? tool.schema : R"({"type":"object"})")
                        .text());
  return array_of(tools);
}

}  // namespace

std::string anthropic_body(const Request& request) {
  ObjectText body;
  body.set("model", json_string(request.model)).set("max_tokens", std::to_string(request.max_tokens)).set("stream", "true");
  if (!blank(request.system)) body.set("system", system_of(request.system));
  if (!request.tools.empty()) body.set("tools", tools_of(request)).set("tool_choice", R"({"type":"auto"})");
  body.merge(request.options);
  body.erase("messages");  // the conversation is the loop's
  return body.set("messages", messages_of(request)).text();
}

}  // namespace runner::agent
