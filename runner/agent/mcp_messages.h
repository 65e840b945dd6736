// MCP's messages as lines of text, both ways: agent-loop.md §5.1. Nothing here waits or remembers.
#pragma once

#include <cstdint>
#include <stdexcept>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

namespace runner::agent {

/// Modern: every request says its version and asks for no session. Legacy: `initialize` begins a session.
enum class Era { Modern, Legacy };

constexpr std::string_view kModernVersion = "2026-07-28";
constexpr std::string_view kNewestLegacyVersion = "2025-11-25";
/// The newest of those that we speak as well; empty when there is none.
std::string pick_version(const std::vector<std::string>& offered);
Era era_of(std::string_view version);
/// As records have them: "modern" and "legacy".
const char* word(Era era);
Era era_named(std::string_view word);

struct McpCall {
  std::uint64_t id = 0;         // never used before on this connection
  std::string tool, arguments;  // a JSON object; empty: {}
  // Of a call that is sent again because its first answer was an InputRequired. Empty: none.
  std::string request_state;    // JSON, as the server gave it
  std::string input_responses;  // a JSON object: key of the request to its result
  std::string traceparent;      // empty: none
};

/// What a request of ours says about us.
struct Speech {
  Era era = Era::Legacy;
  std::string version, client = "0.1";
};

/// A call that cannot be written: what the model or a person gave is no JSON object.
struct BadArguments : std::runtime_error {
  using std::runtime_error::runtime_error;
};

std::string discover_line(std::uint64_t id, const Speech& speech);
std::string initialize_line(std::uint64_t id, const Speech& speech);
std::string initialized_line();
std::string list_line(std::uint64_t id, const std::string& cursor, const Speech& speech);  // cursor: JSON; empty: the first page
std::string call_line(const McpCall& call, const Speech& speech);                          // throws BadArguments
std::string cancelled_line(std::uint64_t id, std::string_view reason);
std::string pong_line(const std::string& id);     // id: JSON
std::string refusal_line(const std::string& id);  // "method not found"

struct Reply {
  std::uint64_t id = 0;
};
struct ServerRequest {
  std::string id, method;  // id: JSON
};
struct CallProgress {
  std::uint64_t id = 0;
};
struct ToolsChanged {};
struct Ignored {};  // a notification that says nothing to us
struct Nonsense {
  std::string why;  // not JSON, or no message of JSON-RPC
};
struct TooMuch {
  std::string why;  // it was not looked into: it might be a reply
};
using Heard = std::variant<Reply, ServerRequest, CallProgress, ToolsChanged, Ignored, Nonsense, TooMuch>;

/// What kind of message a line is. Mends what can be mended in it, so that it can be read again.
Heard hear(std::string& line);

/// What the answer to server/discover says. An answer that is neither a discovery nor -32022 does not count: `modern` is false.
struct Discovered {
  bool modern = false;
  std::vector<std::string> versions;
  std::string server, why;  // why: what it said instead
};
Discovered read_discovered(std::string_view line);

struct Initialized {
  std::string version, server;  // version empty: it refused
  std::string why;
};
Initialized read_initialized(std::string_view line);

}  // namespace runner::agent
