#include "runner/supervise/ports.h"

#include <arpa/inet.h>
#include <fmt/format.h>
#include <limits.h>
#include <unistd.h>

#include <cstdio>
#include <sstream>

#include "isolate/sys/file.h"

namespace runner::supervise {

using namespace isolate::sys;

namespace {

constexpr std::uint64_t kSettled = 50;  // milliseconds until the watch is worth its cost
constexpr std::uint64_t kPause = 100;   // between two looks: who opens ports without end gets no more of our time

// proc_pid_net(5): each word of 32 bits in hexadecimal, as it lies in memory.
std::string parse_address(const std::string& hex, bool six) {
  std::uint32_t words[4] = {};
  if (hex.size() != (six ? 32 : 8)) return {};
  for (std::size_t i = 0; i < hex.size() / 8; ++i)
    words[i] = static_cast<std::uint32_t>(std::strtoul(hex.substr(i * 8, 8).c_str(), nullptr, 16));
  char text[INET6_ADDRSTRLEN];
  return ::inet_ntop(six ? AF_INET6 : AF_INET, words, text, sizeof text) ? text : "";
}

bool holds(const std::string& pid, const std::string& socket) {
  std::string folder = "/proc/" + pid + "/fd";
  if (!find_dir(folder)) return false;
  for (const std::string& name : list_dir(folder)) {
    char target[PATH_MAX];
    ssize_t size = ::readlink((folder + "/" + name).c_str(), target, sizeof target);
    if (size > 0 && std::string_view(target, static_cast<std::size_t>(size)) == socket) return true;
  }
  return false;
}

// The second number of "NSpid:": what the session calls it.
int inner_pid(const std::string& pid) {
  std::string status = find_file("/proc/" + pid + "/status").value_or("");
  std::size_t at = status.find("\nNSpid:");
  int outer = 0, inner = 0;
  return at != std::string::npos && std::sscanf(status.c_str() + at + 7, "%d %d", &outer, &inner) == 2 ? inner : 0;
}

// Its path in the v2 hierarchy.
std::string group_of(const std::string& pid) {
  std::istringstream groups(find_file("/proc/" + pid + "/cgroup").value_or(""));
  for (std::string line; std::getline(groups, line);)
    if (line.rfind("0::", 0) == 0) return line.substr(3);
  return {};
}

}  // namespace

std::vector<Listening> parse_listening(const std::string& table, bool six) {
  constexpr const char* kListen = "0A";
  std::vector<Listening> found;
  std::istringstream lines(table);
  for (std::string line; std::getline(lines, line);) {
    std::istringstream words(line);
    std::string number, local, remote, state, queues, timer, retries, uid, timeout;
    std::uint64_t inode = 0;
    if (!(words >> number >> local >> remote >> state >> queues >> timer >> retries >> uid >> timeout >> inode) || state != kListen) continue;
    std::size_t colon = local.find(':');
    if (colon == std::string::npos) continue;
    auto port = static_cast<std::uint16_t>(std::strtoul(local.c_str() + colon + 1, nullptr, 16));
    found.push_back({parse_address(local.substr(0, colon), six), port, inode});
  }
  return found;
}

int Ports::time_left() const {
  if (!tried_) return milliseconds_left(looked_, kSettled);
  return pending_ ? milliseconds_left(looked_, kPause) : -1;
}

void Ports::check(bool readable) {
  pending_ = pending_ || readable;
  if (time_left() != 0) return;
  if (!std::exchange(tried_, true)) watch_ = isolate::ListenWatch::on(group_);
  if (watch_) look();
}

void Ports::look() {
  looked_ = Clock::now();
  pending_ = false;
  watch_->clear();  // before the look: who begins behind it wakes us again
  std::set<std::uint64_t> now;
  for (bool six : {false, true}) {
    auto table = find_file(fmt::format("/proc/{}/net/{}", init_, six ? "tcp6" : "tcp"));
    for (const Listening& socket : parse_listening(table.value_or(""), six)) {
      now.insert(socket.inode);
      if (!known_.count(socket.inode)) events_.write(describe(socket));
    }
  }
  known_ = std::move(now);
}

events::PortOpened Ports::describe(const Listening& socket) const {
  events::PortOpened event{socket.port, socket.address, "tcp", {}, {}, {}};
  for (pid_t each : group_.processes()) {
    std::string pid = std::to_string(each);
    if (!holds(pid, fmt::format("socket:[{}]", socket.inode))) continue;
    event.pid = inner_pid(pid);
    std::string name = find_file("/proc/" + pid + "/comm").value_or("");
    if (!name.empty()) event.process = name.substr(0, name.size() - 1);
    if (std::string call = call_in_(group_of(pid)); !call.empty()) event.call = call;
    break;
  }
  return event;
}

}  // namespace runner::supervise
