// A call of the session as the clients of MCP and of the tool host want it.
#pragma once

#include <algorithm>
#include <functional>
#include <optional>
#include <string>
#include <utility>

#include "runner/agent/context.h"
#include "runner/agent/session_call.h"
#include "runner/agent/transport.h"

namespace runner::agent {

constexpr std::uint64_t kSlice = 200;  // milliseconds between two looks at whether the job is to end

// Waits in slices, and gives what an earlier connection has missed before what comes now.
class Wire : public Channel, public Transport {
 public:
  Wire(const Context& context, SessionCall call) : context_(context), call_(std::move(call)) {}

  /// Its stdout from this byte on, up to what the log has of it; what follows comes over the connection.
  void catch_up(std::string missed, std::uint64_t from) {
    backlog_ = std::move(missed);
    output_ = from;
    live_from_ = from + backlog_.size();
  }

  void send(std::string_view bytes) override {
    if (before_send) before_send(call_.input(), bytes.size() + (lines ? 1 : 0));
    if (lines) call_.send(std::string(bytes) + "\n");
    else call_.send(bytes);
  }

  std::optional<std::string> receive(std::uint64_t wait_ms) override {
    if (!backlog_.empty()) {
      output_ += backlog_.size();
      return std::exchange(backlog_, {});
    }
    for (;;) {
      context_.check();
      std::uint64_t slice = std::min(wait_ms, kSlice);
      auto piece = call_.next_output(slice);
      if (piece) {
        std::uint64_t end = piece->offset + piece->bytes.size();
        if (end > live_from_) {
          if (piece->offset < live_from_) piece->bytes.erase(0, live_from_ - piece->offset);
          output_ = end;
          return std::move(piece->bytes);
        }
      } else if (wait_ms == slice) {
        return std::nullopt;
      }
      if (!piece) wait_ms -= slice;
    }
  }

  SessionCall& call() { return call_; }
  std::uint64_t output() const { return output_; }

  bool lines = true;
  std::function<void(std::uint64_t input, std::size_t bytes)> before_send;

 private:
  const Context& context_;
  SessionCall call_;
  std::string backlog_;
  std::uint64_t output_ = 0, live_from_ = 0;
};

}  // namespace runner::agent
