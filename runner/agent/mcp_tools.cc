#include "runner/agent/mcp_tools.h"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "runner/agent/untrusted.h"

namespace runner::agent {

using json = nlohmann::json;

namespace {

std::string dump(const json& value) { return value.dump(-1, ' ', false, json::error_handler_t::replace); }

std::string text_at(const json& object, const char* name) {
  auto at = object.is_object() ? object.find(name) : object.end();
  return at != object.end() && at->is_string() ? at->get<std::string>() : std::string();
}

// What every provider takes as the name of a tool.
bool is_name(std::string_view name) {
  return !name.empty() && name.size() <= 64 && std::all_of(name.begin(), name.end(), [](char c) {
    return (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '_' || c == '-';
  });
}

// It recurses as deep as a line may be, which is not deep.
int depth_of(const json& value) {
  int deepest = 0;
  if (value.is_structured())
    for (const json& inner : value) deepest = std::max(deepest, depth_of(inner));
  return value.is_structured() ? deepest + 1 : 0;
}

// Why there can be no such schema; empty when it is good. A missing one takes any object.
std::string mend_schema(json& schema) {
  if (schema.is_null()) schema = json::object();
  if (!schema.is_object()) return "its inputSchema is no object";
  if (depth_of(schema) > kDeepestSchema) return fmt::format("its inputSchema is more than {} deep", kDeepestSchema);
  if (schema.emplace("type", "object").first.value() != "object") return "its inputSchema is not that of an object";
  return {};
}

bool says_read_only(const json& tool) {
  auto annotations = tool.find("annotations");
  return annotations != tool.end() && annotations->is_object() && annotations->value("/readOnlyHint"_json_pointer, json()) == true;
}

}  // namespace

std::string ToolPages::add(std::string_view line) {
  if (++pages_ > kMostPages) throw McpError(fmt::format("its list of tools has more than {} pages", kMostPages));
  bytes_ += line.size();
  if (bytes_ > kLongestToolList) throw McpError(fmt::format("its list of tools has more than {} bytes", kLongestToolList));
  json message = json::parse(line);
  if (auto error = message.find("error"); error != message.end() && !error->is_null())
    throw McpError(fmt::format("it refused to list its tools: {}", cleaned(text_at(*error, "message"))));
  json& result = message["result"];
  if (!result.is_object() || !result.contains("tools") || !result["tools"].is_array()) throw McpError("its list of tools is none");
  for (json& tool : result["tools"]) {
    std::string name = text_at(tool, "name");
    if (!is_name(name)) {
      list_.notes.push_back(fmt::format("tool '{}' is left out: a name has 1 to 64 of A-Z a-z 0-9 _ -", cleaned(name, 100)));
      continue;
    }
    if (!names_.insert(name).second) throw McpError(fmt::format("it has two tools named '{}'", name));
    if (names_.size() > kMostTools) throw McpError(fmt::format("it has more than {} tools", kMostTools));
    json schema = tool.contains("inputSchema") ? std::move(tool["inputSchema"]) : json();
    if (std::string why = mend_schema(schema); !why.empty()) {
      list_.notes.push_back(fmt::format("tool '{}' is left out: {}", name, why));
      continue;
    }
    if (says_read_only(tool)) list_.read_only_hints.insert(name);
    list_.tools.push_back({name, text_at(tool, "description"), dump(schema)});
  }
  auto next = result.find("nextCursor");
  if (next == result.end() || next->is_null()) return {};
  std::string cursor = dump(*next);
  if (!cursors_.insert(cursor).second) throw McpError("its list of tools leads back to a page that it gave before");
  return cursor;
}

ToolList ToolPages::take() {
  std::sort(list_.tools.begin(), list_.tools.end(), [](const auto& a, const auto& b) { return a.name < b.name; });
  return std::move(list_);
}

}  // namespace runner::agent
