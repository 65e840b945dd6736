// How bytes go to a program inside the sandbox and come back. That program is hostile until proven otherwise: what is received may be
// anything, in any pieces, without end.
#pragma once

#include <cstdint>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>

namespace runner::agent {

/// The program has ended, or is of no use any more. The text says why, with what its stderr said last.
struct ServerGone : std::runtime_error {
  using std::runtime_error::runtime_error;
};

/// Raw bytes. Everything that was said before the end is received before ServerGone is thrown.
class Channel {
 public:
  virtual ~Channel() = default;
  /// Queues or writes; never waits for ever for a program that does not read, but throws ServerGone.
  virtual void send(std::string_view bytes) = 0;
  /// Some bytes of its stdout as they come, but no more than a few megabytes at once; empty when the wait is over.
  virtual std::optional<std::string> receive(std::uint64_t wait_ms) = 0;
};

/// The same in lines: send() adds the newline. What is received is not cut into lines.
class Transport {
 public:
  virtual ~Transport() = default;
  virtual void send(std::string_view line) = 0;
  virtual std::optional<std::string> receive(std::uint64_t wait_ms) = 0;
};

}  // namespace runner::agent
