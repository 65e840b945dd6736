// What the tests of this folder share: a session, a snapshot of it, and a second session that goes on from there.
#pragma once

#include "tests/kernel/live.h"

namespace tests {

/// The name of a snapshot, which goes at the end of the test: declare it before the sessions that come from it.
struct Shot {
  std::string name = fresh_id();
  Shot() = default;
  Shot(const Shot&) = delete;
  ~Shot();
  bool there() const;
};

Args operator+(Args list, const Args& more);

/// One runs, the other one goes on from a snapshot of it.
struct Twins {
  Shot shot;
  Box one, other;

  explicit Twins(const Args& command = {"sh", "-c", "exec sleep 300"}, const Args& flags = {});
  Ran snapshot(const Args& flags = {"--leave-running"}) const;  ///< of the first
  Ran restore(const Args& flags = {}) const;                    ///< into the other, in the background
  /// Both of them, which must work.
  void part(const Args& flags = {}) const;
  Ran serve(const std::string& service, const Args& command, const Args& flags = {}) const;  ///< in the first: exec -d --service
  /// In both, which must give the same.
  std::string both(const std::string& shell) const;
};

Ran exec(const Box& box, const Args& command, const How& how = {.timeout_ms = 20'000});
std::string sh(const Box& box, const std::string& text);  ///< stdout and stderr of it, without the last newline
/// All that a call has written, by its number or service's name, from the session's log; checks that offsets follow each other from `from`.
std::string written_by(const Box& box, const std::string& call, std::uint64_t from = 0, const std::string& stream = "stdout");
Events log_of(const Box& box);
nlohmann::json inspected(const Box& box);
bool have(const char* program);  ///< in /usr/bin

}  // namespace tests
