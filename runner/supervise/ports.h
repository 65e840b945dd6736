// port.opened: who listens on a TCP port inside, told when it begins.
//
// It costs nothing while nobody does: a BPF program wakes us (isolate/listen_bpf.h), and what there is to know stands in /proc. It is
// attached a moment after the program began, when one that runs for milliseconds has ended. Without it (an ordinary user) nothing is told.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <functional>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "isolate/cgroup.h"
#include "isolate/listen_bpf.h"
#include "runner/events/writer.h"
#include "runner/supervise/calls.h"

namespace runner::supervise {

struct Listening {
  std::string address;  // as people write it: 127.0.0.1, ::
  std::uint16_t port = 0;
  std::uint64_t inode = 0;
  bool operator==(const Listening&) const = default;
};
/// The sockets that listen, of /proc/PID/net/tcp or tcp6.
std::vector<Listening> parse_listening(const std::string& table, bool six);

class Ports {
 public:
  /// `group` is the session's, and outlives the last check(); `init` its PID 1. `call_in` names the call of a group, by its path; empty for the program's.
  Ports(const isolate::Cgroup& group, pid_t init, events::Writer& events, std::function<std::string(const std::string& group)> call_in)
      : group_(group), init_(init), events_(events), call_in_(std::move(call_in)) {}

  int fd() const { return watch_ && !pending_ ? watch_->fd() : -1; }  ///< to be polled for reading
  int time_left() const;
  void check(bool readable);

 private:
  void look();
  void tell(const std::vector<Listening>& fresh);

  const isolate::Cgroup& group_;
  pid_t init_;
  events::Writer& events_;
  std::function<std::string(const std::string&)> call_in_;
  std::optional<isolate::ListenWatch> watch_;
  bool tried_ = false, pending_ = false;
  Clock::time_point looked_ = Clock::now();
  std::set<std::uint64_t> known_;  // inodes
};

}  // namespace runner::supervise
