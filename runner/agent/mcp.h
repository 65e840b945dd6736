// The client of one MCP server over stdio: agent-loop.md §5.1. The server may lie, flood, hang and die; what it can get by that is an error
// result, McpError or ServerGone, in bounded time and memory.
//
//   McpClient server(transport, options);
//   server.begin();
//   ToolList list = server.list_tools();
//   std::uint64_t id = server.next_id();     // into the journal
//   server.send_call({id, "grep", R"({"q":"x"})"});
//   CallOutcome outcome = server.await(id);
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>

#include "runner/agent/mcp_lines.h"
#include "runner/agent/mcp_messages.h"
#include "runner/agent/mcp_results.h"
#include "runner/agent/mcp_tools.h"
#include "runner/agent/transport.h"

namespace runner::agent {

std::uint64_t steady_ms();

struct McpOptions {
  std::string client_version = "0.1";
  std::function<void(const std::string&)> note = [](const std::string&) {};  // a sentence for the log about what the server did wrong
  std::function<std::uint64_t()> clock = steady_ms;                          // milliseconds
};

constexpr std::uint64_t kDiscoverWait = 2'000;  // ms of silence that make a server a legacy one
constexpr std::uint64_t kDefaultDeadline = 60'000;
constexpr std::uint64_t kHardestDeadline = 600'000;  // however much progress is told

struct Began {
  Era era = Era::Legacy;
  std::string version, server;  // server: what it calls itself, cleaned
};

class McpClient {
 public:
  explicit McpClient(Transport& transport, McpOptions options = {});

  /// The first thing to do with a server that has just started. With a known era (of a lock file) it is held to that one. Throws McpError when
  /// there is no version that both speak, or it keeps silent.
  Began begin(std::optional<Era> known = std::nullopt, std::uint64_t deadline_ms = kDefaultDeadline);
  /// Instead, with a server that went on living while its client did not, as after a restore. `next_id` is that of the journal.
  void resume(Era era, std::string version, std::uint64_t next_id);

  /// All pages together have until the deadline. Throws McpError.
  ToolList list_tools(std::uint64_t deadline_ms = kDefaultDeadline);
  /// Whether the server said so since the last list_tools().
  bool tools_changed() const { return tools_changed_; }

  /// Ids go up. A call may take this one or any larger one; requests of our own take ids as well.
  std::uint64_t next_id() const { return next_id_; }
  /// Arguments that are no JSON object are not sent: await() gives the error result.
  void send_call(const McpCall& call);
  /// A call that an earlier client of this server has sent.
  void adopt_call(std::uint64_t id);
  /// The deadline counts from now; progress makes it count anew, up to kHardestDeadline in all. Then the call is cancelled, and a late reply
  /// is dropped. Other calls may be waiting meanwhile.
  CallOutcome await(std::uint64_t id, std::uint64_t deadline_ms = kDefaultDeadline);
  CallOutcome call(const McpCall& call, std::uint64_t deadline_ms = kDefaultDeadline);
  /// Nobody will await it.
  void cancel(std::uint64_t id, std::string_view reason);

 private:
  struct Waiting {
    std::string line, failure;  // one of them, when it is over
    bool over() const { return !line.empty() || !failure.empty(); }
  };

  std::uint64_t ask(const std::function<std::string(std::uint64_t)>& line);
  bool wait_for(std::uint64_t id, std::uint64_t ms, bool extends);
  std::string take(std::uint64_t id);
  void take_line(McpLines::Line line, std::uint64_t awaited);
  void take_reply(std::uint64_t id, std::string line);
  void answer(const ServerRequest& request);
  void nonsense(const std::string& why, std::string_view line);
  Began begin_modern(const Discovered& found, std::uint64_t deadline_ms);
  Began begin_legacy(std::string version, std::optional<std::uint64_t> discover, std::uint64_t deadline_ms);

  Transport& transport_;
  McpOptions options_;
  Speech speech_;
  McpLines lines_;
  std::map<std::uint64_t, Waiting> waiting_;
  std::uint64_t next_id_ = 1;
  std::size_t nonsense_ = 0, answers_ = 0;
  bool has_session_ = false, tools_changed_ = false, progressed_ = false;
};

}  // namespace runner::agent
