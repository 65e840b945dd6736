#include "runner/supervise/ports.h"

#include <arpa/inet.h>
#include <fmt/format.h>
#include <unistd.h>

#include <cstdio>
#include <map>
#include <sstream>

#include "isolate/sys/file.h"
#include "runner/session/entry.h"

namespace runner::supervise {

using namespace isolate::sys;

namespace {

constexpr std::uint64_t kSettled = 50;  // milliseconds until the watch is worth its cost
constexpr std::uint64_t kPause = 100;   // between two looks: who opens ports without end gets no more of our time
constexpr std::size_t kMostKnown = 4096;
constexpr std::size_t kMostLooked = 20'000;  // descriptors of a session, in search of an owner: a hundredth of a second

// proc_pid_net(5): each word of 32 bits in hexadecimal, as it lies in memory.
std::string parse_address(const std::string& hex, bool six) {
  std::uint32_t words[4] = {};
  if (hex.size() != (six ? 32 : 8)) return {};
  for (std::size_t i = 0; i < hex.size() / 8; ++i)
    words[i] = static_cast<std::uint32_t>(std::strtoul(hex.substr(i * 8, 8).c_str(), nullptr, 16));
  char text[INET6_ADDRSTRLEN];
  return ::inet_ntop(six ? AF_INET6 : AF_INET, words, text, sizeof text) ? text : "";
}

// The sockets that a process holds: "socket:[4711]".
std::vector<std::uint64_t> sockets_of(const std::string& pid, std::size_t& looked) {
  std::vector<std::uint64_t> inodes;
  std::string folder = "/proc/" + pid + "/fd";
  if (!find_dir(folder)) return inodes;
  for (const std::string& name : list_dir(folder)) {
    char target[64] = {};
    unsigned long inode = 0;
    bool read = ++looked <= kMostLooked && ::readlink((folder + "/" + name).c_str(), target, sizeof target - 1) > 0;
    if (read && std::sscanf(target, "socket:[%lu]", &inode) == 1) inodes.push_back(inode);
  }
  return inodes;
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
  // The table is no snapshot: a socket may be left out of it, or be in it twice, when others come and go meanwhile. So there is one more look.
  pending_ = watch_->clear();
  std::set<std::uint64_t> now;
  std::vector<Listening> fresh;
  for (bool six : {false, true}) {
    auto table = find_file(fmt::format("/proc/{}/net/{}", init_, six ? "tcp6" : "tcp"));
    for (const Listening& socket : parse_listening(table.value_or(""), six)) {
      bool twice = !now.insert(socket.inode).second;
      if (!twice && !known_.count(socket.inode)) fresh.push_back(socket);
    }
  }
  // One that is missing may be there again at the next look, and a number is not used twice: it is forgotten for room only.
  if (known_.size() + now.size() > kMostKnown) known_.clear();
  known_.merge(now);
  if (!fresh.empty()) tell(fresh);
}

void Ports::tell(const std::vector<Listening>& fresh) {
  std::map<std::uint64_t, std::string> owners;  // the first by its number: a parent, when children have inherited the socket
  for (const Listening& socket : fresh) owners[socket.inode];
  std::size_t looked = 0;
  for (pid_t each : group_.processes()) {
    std::string pid = std::to_string(each);
    for (std::uint64_t inode : sockets_of(pid, looked))
      if (auto owner = owners.find(inode); owner != owners.end() && owner->second.empty()) owner->second = pid;
    if (looked > kMostLooked) break;
  }
  for (const Listening& socket : fresh) {
    events::PortOpened event{socket.port, socket.address, "tcp", {}, {}, {}};
    if (const std::string& pid = owners[socket.inode]; !pid.empty()) {
      if (int inner = session::pid_inside(std::stoi(pid))) event.pid = inner;
      std::string name = find_file("/proc/" + pid + "/comm").value_or("");
      if (!name.empty()) event.process = name.substr(0, name.size() - 1);
      if (std::string call = call_in_(group_of(pid)); !call.empty()) event.call = call;
    }
    events_.write(event);
  }
}

}  // namespace runner::supervise
