// A server that is a script, and time that is a number: for the tests of the MCP client.
#pragma once

#include <doctest/doctest.h>

#include <algorithm>
#include <deque>
#include <nlohmann/json.hpp>

#include "runner/agent/mcp.h"
#include "runner/agent/untrusted.h"

namespace mcp_test {

using namespace runner::agent;
using json = nlohmann::json;

class Script : public Transport {
 public:
  std::function<void(const json&)> heard = [](const json&) {};
  std::vector<json> said;  // by the client
  std::vector<std::string> notes;
  std::string flood;  // said at every chance, when there is nothing else
  std::uint64_t now = 1000;
  bool gone = false;

  void send(std::string_view line) override {
    CHECK(line.find('\n') == std::string_view::npos);
    said.push_back(json::parse(line));
    heard(said.back());
  }

  std::optional<std::string> receive(std::uint64_t wait_ms) override {
    if (!soon_.empty() && soon_.front().first <= now + wait_ms) {
      auto [at, bytes] = soon_.front();
      soon_.pop_front();
      now = std::max(now, at);
      return bytes;
    }
    if (gone) throw ServerGone("exit 1, stderr: out of cheese");
    now += flood.empty() ? wait_ms : std::min<std::uint64_t>(wait_ms, 50);
    if (!flood.empty()) return flood;
    return std::nullopt;
  }

  void bytes(std::string text, std::uint64_t after = 0) { soon_.emplace_back(now + after, std::move(text)); }
  void say(const json& message, std::uint64_t after = 0) { bytes(message.dump() + "\n", after); }
  void result(const json& request, const json& result, std::uint64_t after = 0) {
    say({{"jsonrpc", "2.0"}, {"id", request["id"]}, {"result", result}}, after);
  }
  void error(const json& request, int code, const json& data = {}) {
    json error{{"code", code}, {"message", "no"}};
    if (!data.is_null()) error["data"] = data;
    say({{"jsonrpc", "2.0"}, {"id", request["id"]}, {"error", error}});
  }
  void text(const json& request, const std::string& text, std::uint64_t after = 0) {
    result(request, {{"content", {{{"type", "text"}, {"text", text}}}}}, after);
  }

  /// An era, and then what the test wants.
  void modern(const std::function<void(const json&)>& then) {
    heard = [this, then](const json& m) {
      if (m["method"] == "server/discover")
        return result(m, {{"resultType", "complete"}, {"supportedVersions", {"2026-07-28"}}, {"serverInfo", {{"name", "s"}}}});
      then(m);
    };
  }
  void legacy(const std::function<void(const json&)>& then, const std::string& version = "2025-06-18") {
    heard = [this, then, version](const json& m) {
      std::string method = m.value("method", "");
      if (method == "server/discover") return error(m, -32601);
      if (method == "initialize")
        return result(m, {{"protocolVersion", version}, {"capabilities", json::object()}, {"serverInfo", {{"name", "old"}, {"version", "1"}}}});
      then(m);
    };
  }

  McpOptions options() {
    McpOptions options;
    options.clock = [this] { return now; };
    options.note = [this](const std::string& note) { notes.push_back(note); };
    return options;
  }

 private:
  std::deque<std::pair<std::uint64_t, std::string>> soon_;
};

inline std::string text_of(const CallOutcome& outcome) {
  std::string all;
  for (const auto& part : outcome.result.content)
    if (auto* text = std::get_if<Text>(&part)) all += text->text;
  return all;
}

inline std::string why_not(const std::function<void()>& attempt) {
  try {
    attempt();
  } catch (const McpError& error) {
    return error.what();
  } catch (const ServerGone& error) {
    return std::string("gone: ") + error.what();
  }
  return "";
}

/// A legacy server with one call, answered by what the script says.
inline CallOutcome one_call(Script& script, const std::function<void(const json&)>& answer, std::uint64_t deadline = 60'000) {
  script.legacy([answer](const json& m) {
    if (m.value("method", "") == "tools/call") answer(m);
  });
  McpClient client(script, script.options());
  client.begin();
  return client.call({client.next_id(), "t", "{}"}, deadline);
}

inline ToolList listed(Script& script, const std::function<json(const json&)>& page) {
  script.modern([&script, page](const json& m) {
    if (m["method"] == "tools/list") script.result(m, page(m));
  });
  McpClient client(script, script.options());
  client.begin();
  return client.list_tools();
}

inline json tool(const std::string& name) { return {{"name", name}, {"description", "d"}, {"inputSchema", {{"type", "object"}}}}; }

}  // namespace mcp_test
