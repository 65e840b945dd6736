// runner's end of runner-tools (runner/tools/protocol.h). That program runs among the workload, which may have put another in its place:
// nothing it says is believed further than a result of the call that waits.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <string>
#include <string_view>

#include "runner/agent/mcp.h"
#include "runner/agent/message.h"
#include "runner/agent/transport.h"
#include "runner/tools/protocol.h"

namespace runner::agent {

/// What it said is not the protocol. It is of no use any more: start another one.
struct ToolHostBroken : std::runtime_error {
  using std::runtime_error::runtime_error;
};

class ToolHost {
 public:
  explicit ToolHost(Channel& channel, std::function<std::uint64_t()> clock = steady_ms) : channel_(channel), clock_(std::move(clock)) {}

  /// Gives how many calls it has run in its life. Throws ToolHostBroken, ServerGone.
  std::uint64_t hello(std::uint64_t deadline_ms = 10'000);
  /// One at a time. The same id again is the same call: it is not run twice. Arguments that are no JSON object are an error result, as is the
  /// end of the time; the call may take effect even so, and its result is dropped.
  ToolResult call(const std::string& id, const std::string& tool, const std::string& arguments, std::uint64_t deadline_ms);
  /// The result is in the journal of the job: it need not be remembered over there.
  void ack(const std::string& id);
  void forget_all();

 private:
  void send(const std::string& json);
  bool is_past(const std::string& id) const;
  std::string receive(std::uint64_t end);  // empty: the time is over
  [[noreturn]] void broken(const std::string& why);

  Channel& channel_;
  std::function<std::uint64_t()> clock_;
  tools::Frames frames_;
  std::deque<std::string> past_;  // ids whose results may still come, or come again
  std::string broken_;
};

}  // namespace runner::agent
