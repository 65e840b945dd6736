#include "runner/snapshot/hazards.h"

#include <fmt/format.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <map>
#include <optional>
#include <set>
#include <sstream>

#include "isolate/sys/file.h"

namespace runner::snapshot {

using namespace isolate::sys;
using Effect = Hazard::Effect;

namespace {

#ifndef MQUEUE_MAGIC
#define MQUEUE_MAGIC 0x19800202
#endif

constexpr std::uint64_t kLargeDeleted = 1u << 30;  // take.cc: ghost_limit

std::string link_of(const std::string& path) { return find_link(path).value_or(""); }

std::string field(const std::string& text, const std::string& name) {
  std::size_t at = text.find(name);
  if (at == std::string::npos) return {};
  std::size_t begin = text.find_first_not_of(" \t", at + name.size()), end = text.find('\n', at);
  return begin == std::string::npos || begin > end ? "" : text.substr(begin, end - begin);
}

std::uint64_t inode_in(const std::string& link) {  // "socket:[123]"
  std::size_t at = link.find('[');
  return at == std::string::npos ? 0 : std::stoull(link.substr(at + 1));
}

// The sockets of one network namespace: /proc/PID/net, proc_pid_net(5).
class Sockets {
 public:
  explicit Sockets(pid_t pid) {
    for (const char* family : {"tcp", "tcp6"}) read_tcp(find_file(fmt::format("/proc/{}/net/{}", pid, family)).value_or(""));
    std::istringstream lines(find_file(fmt::format("/proc/{}/net/unix", pid)).value_or(""));
    for (std::string line; std::getline(lines, line);) {
      std::istringstream words(line);
      std::string number, references, protocol, flags, type, state;
      std::uint64_t inode = 0;
      if (words >> number >> references >> protocol >> flags >> type >> state >> inode) unix_.insert(inode);
    }
  }
  bool is_unix(std::uint64_t inode) const { return unix_.count(inode); }
  /// Established, and by its two addresses.
  const std::pair<std::string, std::string>* tcp(std::uint64_t inode) const {
    auto found = tcp_.find(inode);
    return found == tcp_.end() ? nullptr : &found->second;
  }
  bool has_other_end(const std::pair<std::string, std::string>& ends, const std::set<std::uint64_t>& inside) const {
    for (const auto& [inode, each] : tcp_)
      if (each.first == ends.second && each.second == ends.first && inside.count(inode)) return true;
    return false;
  }

 private:
  void read_tcp(const std::string& text) {
    std::istringstream lines(text);
    for (std::string line; std::getline(lines, line);) {
      std::istringstream words(line);
      std::string slot, local, remote, state, word;
      std::uint64_t inode = 0;
      if (!(words >> slot >> local >> remote >> state) || state != "01") continue;
      for (int i = 0; i < 5; ++i) words >> word;
      if (words >> inode) tcp_[inode] = {local, remote};
    }
  }
  std::map<std::uint64_t, std::pair<std::string, std::string>> tcp_;
  std::set<std::uint64_t> unix_;
};

class Look {
 public:
  explicit Look(const std::vector<pid_t>& pids) : pids_(pids) {
    if (pids.empty()) return;
    sockets_.emplace(pids.front());
    user_ = link_of(fmt::format("/proc/{}/ns/user", pids.front()));
    for (pid_t pid : pids)
      for (const std::string& fd : find_list(pid)) {
        std::string link = link_of(fmt::format("/proc/{}/fd/{}", pid, fd));
        if (link.starts_with("socket:[")) inside_.insert(inode_in(link));
      }
  }

  std::vector<Hazard> run() {
    for (pid_t pid : pids_) {
      std::string status = find_file(fmt::format("/proc/{}/status", pid)).value_or("");
      if (status.empty()) continue;
      std::istringstream numbers(field(status, "NSpid:"));
      for (pid_t each; numbers >> each;) now_.pid = each;
      now_.process = field(status, "Name:");
      look_at_process(pid);
      for (const std::string& fd : find_list(pid)) look_at(pid, std::stoi(fd));
    }
    return std::move(found_);
  }

 private:
  static std::vector<std::string> find_list(pid_t pid) {
    try {
      return list_dir(fmt::format("/proc/{}/fd", pid));
    } catch (const std::exception&) {
      return {};  // it has ended
    }
  }
  void tell(int fd, const std::string& what, Effect effect, const char* remedy) {
    now_.fd = fd, now_.what = what, now_.effect = effect, now_.remedy = remedy;
    found_.push_back(now_);
  }

  void look_at_process(pid_t pid) {
    std::string user = link_of(fmt::format("/proc/{}/ns/user", pid));
    if (!user.empty() && user != user_) tell(-1, "a nested user namespace", Effect::Fails, "end the process: CRIU keeps one user namespace a session");
  }

  void look_at(pid_t pid, int fd) {
    std::string path = fmt::format("/proc/{}/fd/{}", pid, fd), link = link_of(path);
    struct stat info;
    if (link.empty() || ::stat(path.c_str(), &info) == -1) return;
    std::string details = find_file(fmt::format("/proc/{}/fdinfo/{}", pid, fd)).value_or("");
    if (link == "anon_inode:[io_uring]") return tell(fd, "io_uring", Effect::Fails, "close it: the kernel tells nobody what is in it");
    if (link == "anon_inode:[userfaultfd]") return tell(fd, "userfaultfd", Effect::Fails, "close it: its pages are not in any process yet");
    for (const char* kind : {"[fanotify]", "[perf_event]", "bpf-", "kvm"})
      if (link.starts_with("anon_inode:") && link.find(kind) != std::string::npos) return tell(fd, link.substr(11), Effect::Fails, "close it");
    if (link == "anon_inode:inotify") tell(fd, "inotify", Effect::Kept, "");
    if (link.starts_with("/memfd:")) tell(fd, "memfd", Effect::Kept, "");
    if (S_ISSOCK(info.st_mode)) return look_at_socket(fd, inode_in(link));
    if (S_ISCHR(info.st_mode)) return look_at_device(fd, link, info);
    if (S_ISREG(info.st_mode) && info.st_nlink == 0 && !link.starts_with("/memfd:")) {
      bool large = static_cast<std::uint64_t>(info.st_blocks) * 512 > kLargeDeleted;
      tell(fd, fmt::format("a deleted file of {} MiB", info.st_blocks >> 11), large ? Effect::Fails : Effect::Kept, large ? "close it, or give it a name: up to 1 GiB is copied" : "");
    }
    if (S_ISREG(info.st_mode) && is_queue(path))
      tell(fd, "a POSIX message queue", Effect::Fails, "close and unlink it: use a pipe or a local socket");
    if (details.find("\nlock:") != std::string::npos) tell(fd, "a file lock", Effect::Kept, "");
  }

  // Of a file system that is mounted nowhere.
  static bool is_queue(const std::string& path) {
    struct statfs system;
    return ::statfs(path.c_str(), &system) == 0 && system.f_type == MQUEUE_MAGIC;
  }

  void look_at_socket(int fd, std::uint64_t inode) {
    if (auto* ends = sockets_->tcp(inode)) {
      if (sockets_->has_other_end(*ends, inside_)) return tell(fd, "a TCP connection within the session", Effect::Kept, "");
      return tell(fd, "a TCP connection whose other end is outside", Effect::Closed, "the restored session finds it closed: connect again");
    }
    if (sockets_->is_unix(inode)) return;
    if (now_.pid == 1) return;  // its control socket is changed for another one before the dump
    if (host_.is_unix(inode) || host_.tcp(inode)) tell(fd, "a socket of the host's", Effect::Fails, "close it: its other end is not in the session");
  }

  void look_at_device(int fd, const std::string& link, const struct stat& info) {
    unsigned major_number = major(info.st_rdev), minor_number = minor(info.st_rdev);
    if (major_number == 5 && minor_number == 0)
      return tell(fd, "/dev/tty, by its own name", Effect::Fails, "CRIU 4 refuses it: close it, or use a shell such as bash that works on its own descriptors");
    bool plain = major_number == 1 && (minor_number == 3 || minor_number == 5 || minor_number == 7 || minor_number == 8 || minor_number == 9);
    bool terminal = major_number == 5 || (major_number >= 136 && major_number <= 143);
    if (!plain && !terminal) tell(fd, "the device " + link, Effect::Fails, "close it: the state of a device is the host's");
  }

  const std::vector<pid_t>& pids_;
  Sockets host_{::getpid()};
  std::optional<Sockets> sockets_;
  std::set<std::uint64_t> inside_;
  std::string user_;
  Hazard now_;
  std::vector<Hazard> found_;
};

}  // namespace

const char* word(Effect effect) {
  switch (effect) {
    case Effect::Kept: return "kept";
    case Effect::Lost: return "lost";
    case Effect::Closed: return "closed";
    case Effect::Fails: return "fails";
  }
  return "";
}

std::vector<Hazard> find_hazards(const std::vector<pid_t>& pids) { return Look(pids).run(); }

}  // namespace runner::snapshot
