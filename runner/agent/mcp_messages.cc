#include "runner/agent/mcp_messages.h"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "runner/agent/untrusted.h"

namespace runner::agent {

using json = nlohmann::json;

namespace {

constexpr std::string_view kLegacyVersions[] = {"2025-11-25", "2025-06-18", "2025-03-26", "2024-11-05"};
constexpr std::size_t kLongestServerId = 1024;

std::string text_of(const json& message) { return message.dump(-1, ' ', false, json::error_handler_t::replace); }

std::string request(std::uint64_t id, std::string_view method, json params) {
  return text_of({{"jsonrpc", "2.0"}, {"id", id}, {"method", method}, {"params", std::move(params)}});
}

json client_info(const Speech& speech) { return {{"name", "runner"}, {"version", speech.client}}; }

json meta_of(const Speech& speech) {
  if (speech.era == Era::Legacy) return json::object();
  return {{"io.modelcontextprotocol/protocolVersion", speech.version},
          {"io.modelcontextprotocol/clientCapabilities", json::object()},
          {"io.modelcontextprotocol/clientInfo", client_info(speech)}};
}

json parse_given(std::string text, std::string_view what) {
  if (std::string why = why_not_parse(text); !why.empty()) throw BadArguments(fmt::format("{} cannot be taken: {}", what, why));
  mend_surrogates(text);
  json value = json::parse(text, nullptr, false);
  if (value.is_discarded()) throw BadArguments(fmt::format("{} cannot be read as JSON: {}", what, cleaned(text)));
  return value;
}

json parse_object(const std::string& text, std::string_view what) {
  json value = parse_given(text, what);
  if (!value.is_object()) throw BadArguments(fmt::format("{} are no JSON object: {}", what, cleaned(text)));
  return value;
}

const json* find(const json& object, const char* name) {
  if (!object.is_object()) return nullptr;
  auto at = object.find(name);
  return at == object.end() || at->is_null() ? nullptr : &*at;
}

std::string text_at(const json* value) { return value && value->is_string() ? value->get<std::string>() : std::string(); }

std::string error_text(const json& error) {
  const json* code = find(error, "code");
  return fmt::format("'{}' (code {})", cleaned(text_at(find(error, "message"))), code && code->is_number_integer() ? text_of(*code) : "none");
}

Heard hear_notification(const json& message, const std::string& method) {
  if (method == "notifications/tools/list_changed") return ToolsChanged{};
  const json* params = find(message, "params");
  const json* token = params ? find(*params, "progressToken") : nullptr;
  if (method == "notifications/progress" && token && token->is_number_unsigned()) return CallProgress{token->get<std::uint64_t>()};
  return Ignored{};
}

Heard hear_request(const json& message, const json& id, std::string method) {
  bool fits = id.is_number_integer() || (id.is_string() && id.get_ref<const std::string&>().size() <= kLongestServerId);
  if (!fits || message.contains("result") || message.contains("error")) return Nonsense{"a request with an id that is none"};
  return ServerRequest{text_of(id), std::move(method)};
}

}  // namespace

std::string pick_version(const std::vector<std::string>& offered) {
  auto has = [&](std::string_view version) { return std::find(offered.begin(), offered.end(), version) != offered.end(); };
  if (has(kModernVersion)) return std::string(kModernVersion);
  for (std::string_view version : kLegacyVersions)
    if (has(version)) return std::string(version);
  return {};
}

const char* word(Era era) { return era == Era::Modern ? "modern" : "legacy"; }
Era era_named(std::string_view word) { return word == "modern" ? Era::Modern : Era::Legacy; }

Era era_of(std::string_view version) { return version == kModernVersion ? Era::Modern : Era::Legacy; }

std::string discover_line(std::uint64_t id, const Speech& speech) {
  return request(id, "server/discover", {{"_meta", meta_of({Era::Modern, std::string(kModernVersion), speech.client})}});
}

std::string initialize_line(std::uint64_t id, const Speech& speech) {
  return request(id, "initialize", {{"protocolVersion", speech.version}, {"capabilities", json::object()}, {"clientInfo", client_info(speech)}});
}

std::string initialized_line() { return text_of({{"jsonrpc", "2.0"}, {"method", "notifications/initialized"}}); }

std::string list_line(std::uint64_t id, const std::string& cursor, const Speech& speech) {
  json params = json::object();
  if (!cursor.empty()) params["cursor"] = json::parse(cursor);
  if (speech.era == Era::Modern) params["_meta"] = meta_of(speech);
  return request(id, "tools/list", std::move(params));
}

std::string call_line(const McpCall& call, const Speech& speech) {
  json params{{"name", call.tool}, {"arguments", call.arguments.empty() ? json::object() : parse_object(call.arguments, "the arguments")}};
  if (!call.request_state.empty()) params["requestState"] = parse_given(call.request_state, "the state of the request");
  if (!call.input_responses.empty()) params["inputResponses"] = parse_object(call.input_responses, "the answers");
  params["_meta"] = meta_of(speech);
  params["_meta"]["progressToken"] = call.id;
  if (!call.traceparent.empty()) params["_meta"]["traceparent"] = call.traceparent;
  return request(call.id, "tools/call", std::move(params));
}

std::string cancelled_line(std::uint64_t id, std::string_view reason) {
  return text_of({{"jsonrpc", "2.0"}, {"method", "notifications/cancelled"}, {"params", {{"requestId", id}, {"reason", reason}}}});
}

std::string pong_line(const std::string& id) { return fmt::format(R"({{"jsonrpc":"2.0","id":{},"result":{{}}}})", id); }

std::string refusal_line(const std::string& id) {
  return fmt::format(R"({{"jsonrpc":"2.0","id":{},"error":{{"code":-32601,"message":"this client offers nothing to servers"}}}})", id);
}

Heard hear(std::string& line) {
  if (line.find_first_not_of(" \t\r") == std::string::npos) return Ignored{};
  if (std::string why = why_not_parse(line); !why.empty()) return TooMuch{why};
  mend_surrogates(line);
  json message = json::parse(line, nullptr, false);
  if (message.is_discarded()) return Nonsense{"no JSON"};
  if (!message.is_object()) return Nonsense{"JSON that is no object"};
  const json* id = find(message, "id");
  if (std::string method = text_at(find(message, "method")); !method.empty())
    return id ? hear_request(message, *id, method) : hear_notification(message, method);
  if (!id || !id->is_number_unsigned()) return Nonsense{"an answer to nothing that was asked"};
  if ((find(message, "result") == nullptr) == (find(message, "error") == nullptr))
    return Nonsense{"an answer with neither or both of result and error"};
  return Reply{id->get<std::uint64_t>()};
}

Discovered read_discovered(std::string_view line) {
  json message = json::parse(line);
  Discovered found;
  const json* versions = nullptr;
  if (const json* error = find(message, "error")) {
    found.why = error_text(*error);
    const json* code = find(*error, "code");
    const json* data = find(*error, "data");
    if (!code || *code != -32022) return found;
    versions = data ? find(*data, "supported") : nullptr;
    found.modern = true;
  } else {
    const json& result = message["result"];
    versions = find(result, "supportedVersions");
    found.modern = versions != nullptr && versions->is_array();
    const json* info = find(result, "serverInfo");
    const json* meta = find(result, "_meta");
    if (!info && meta) info = find(*meta, "io.modelcontextprotocol/serverInfo");
    if (info) found.server = cleaned(text_at(find(*info, "name")));
    if (!found.modern) found.why = "an answer to server/discover without supportedVersions";
  }
  if (versions && versions->is_array())
    for (const json& version : *versions)
      if (version.is_string()) found.versions.push_back(version.get<std::string>());
  return found;
}

Initialized read_initialized(std::string_view line) {
  json message = json::parse(line);
  if (const json* error = find(message, "error")) return {{}, {}, error_text(*error)};
  const json* info = find(message["result"], "serverInfo");
  Initialized done{text_at(find(message["result"], "protocolVersion")), info ? cleaned(text_at(find(*info, "name"))) : "", ""};
  if (done.version.empty()) done.why = "an answer without protocolVersion";
  return done;
}

}  // namespace runner::agent
