#include "runner/snapshot/identity.h"

#include <fmt/format.h>
#include <sys/stat.h>

#include <algorithm>
#include <map>
#include <set>
#include <sstream>

#include "isolate/privileges.h"
#include "isolate/sys/file.h"
#include "runner/snapshot/fits.h"

namespace runner::snapshot {

using namespace isolate::sys;

namespace {

constexpr std::uint64_t bit(int capability) { return std::uint64_t{1} << capability; }
constexpr std::uint64_t kOfInit = bit(5) | bit(6) | bit(7);  // CAP_KILL, CAP_SETGID, CAP_SETUID

// proc_pid_status(5): "Name:\tvalue"
class Status {
 public:
  Status(pid_t pid, pid_t thread) : who_(thread), text_("\n" + read_file(fmt::format("/proc/{}/task/{}/status", pid, thread))) {}
  std::string line(const std::string& name) const {
    std::size_t at = text_.find("\n" + name + ":");
    if (at == std::string::npos) return {};
    at += name.size() + 2;
    return text_.substr(at, text_.find('\n', at) - at);
  }
  std::vector<std::uint64_t> numbers(const std::string& name, int base = 10) const {
    std::istringstream words(line(name));
    std::vector<std::uint64_t> all;
    for (std::string word; words >> word;) all.push_back(std::stoull(word, nullptr, base));
    return all;
  }
  std::uint64_t number(const std::string& name, int base = 10) const {
    auto all = numbers(name, base);
    if (all.empty()) throw Unfit(fmt::format("this kernel does not tell {} of process {}", name, who_));
    return all[0];
  }
  std::string name() const { return line("Name").erase(0, 1); }

 private:
  pid_t who_;
  std::string text_;
};

std::vector<pid_t> children_of(pid_t pid) {
  std::vector<pid_t> all;
  for (const std::string& thread : list_dir(fmt::format("/proc/{}/task", pid))) {
    std::istringstream words(find_file(fmt::format("/proc/{}/task/{}/children", pid, thread)).value_or(""));
    for (pid_t child; words >> child;) all.push_back(child);
  }
  return all;
}

std::vector<pid_t> tree_of(pid_t root) {
  std::vector<pid_t> all{root};
  for (std::size_t i = 0; i < all.size(); ++i) {
    std::vector<pid_t> children = children_of(all[i]);
    all.insert(all.end(), children.begin(), children.end());
  }
  return all;
}

bool within(const std::vector<isolate::IdRange>& ranges, std::uint64_t id) {
  return std::any_of(ranges.begin(), ranges.end(), [&](const isolate::IdRange& r) { return id >= r.outside && id - r.outside < r.count; });
}

void check_thread(const Status& status, pid_t pid, bool init, const isolate::Plan& plan) {
  auto bad = [&](const std::string& what) { throw Unfit(fmt::format("process {} ({}) came back with {}, which policy and flags of today do not give it", pid, status.name(), what)); };
  for (auto [name, ranges] : {std::pair{"Uid", &plan.ids.uids}, {"Gid", &plan.ids.gids}, {"Groups", &plan.ids.gids}})
    for (std::uint64_t id : status.numbers(name))
      if (!within(*ranges, id)) bad(fmt::format("the {} {}, which is outside of its session's", name, id));

  const isolate::Capabilities& given = plan.process.capabilities;
  std::uint64_t all = given.bounding | given.permitted | given.effective | given.inheritable | given.ambient;
  for (const char* name : {"CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"}) {
    bool held = name == std::string("CapPrm") || name == std::string("CapEff");
    std::uint64_t most = init ? (held ? kOfInit : 0) | all : all, more = status.number(name, 16) & ~most;
    for (int i = 0; i < 64; ++i)
      if (more & bit(i)) bad(fmt::format("{} in {}", isolate::capability_name(i), name));
  }
  if (plan.process.no_new_privileges && status.number("NoNewPrivs") != 1) bad("no_new_privs cleared");
  if (!init && status.number("Seccomp_filters") < plan.seccomp.size())
    bad(fmt::format("{} seccomp filters instead of {}", status.number("Seccomp_filters"), plan.seccomp.size()));
  if (!init && !plan.seccomp.empty() && status.number("Seccomp") != 2) bad("no seccomp filter in force");
}

std::uint64_t inode(const std::string& path) {
  struct stat info;
  return ::stat(path.c_str(), &info) == 0 ? info.st_ino : 0;
}

}  // namespace

void check_identity(const isolate::Plan& plan, pid_t root, pid_t restorer, const std::vector<pid_t>& group) {
  std::map<std::string, std::uint64_t> host;
  for (const char* name : {"user", "mnt", "pid", "net", "ipc", "uts", "cgroup"}) host[name] = inode(fmt::format("/proc/self/ns/{}", name));
  std::vector<pid_t> tree = tree_of(root), others = tree_of(restorer);
  std::set<pid_t> strangers(group.begin(), group.end());
  for (pid_t pid : others) strangers.erase(pid);
  for (pid_t pid : tree) {
    bool member = strangers.erase(pid);
    if (Status(pid, pid).line("State").find('Z') != std::string::npos) continue;  // in no group, and nothing that could run
    if (!member) throw Unfit(fmt::format("process {} came back outside of its session's cgroup", pid));
    for (const auto& [name, ours] : host) {
      std::uint64_t its = inode(fmt::format("/proc/{}/ns/{}", pid, name));
      if (its == 0 || its == ours) throw Unfit(fmt::format("process {} came back in the host's {} namespace", pid, name));
    }
    for (const std::string& thread : list_dir(fmt::format("/proc/{}/task", pid))) check_thread(Status(pid, std::stoi(thread)), pid, plan.init && pid == root, plan);
  }
  if (!strangers.empty()) throw Unfit(fmt::format("process {} is in the session's cgroup, and not of the tree that was restored", *strangers.begin()));
}

}  // namespace runner::snapshot
