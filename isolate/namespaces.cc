#include "isolate/namespaces.h"

#include <fcntl.h>
#include <linux/sched.h>
#include <sched.h>
#include <sys/stat.h>

#include "isolate/sys/error.h"
#include "isolate/sys/file.h"

namespace isolate {

using namespace sys;

namespace {

struct Known {
  NamespaceKind kind;
  int flag;
  const char *name, *file;
};
constexpr Known kKnown[] = {
    {NamespaceKind::User, CLONE_NEWUSER, "user", "user"},    {NamespaceKind::Mount, CLONE_NEWNS, "mount", "mnt"},
    {NamespaceKind::Pid, CLONE_NEWPID, "pid", "pid"},        {NamespaceKind::Network, CLONE_NEWNET, "network", "net"},
    {NamespaceKind::Ipc, CLONE_NEWIPC, "ipc", "ipc"},        {NamespaceKind::Uts, CLONE_NEWUTS, "uts", "uts"},
    {NamespaceKind::Cgroup, CLONE_NEWCGROUP, "cgroup", "cgroup"}, {NamespaceKind::Time, CLONE_NEWTIME, "time", "time"},
};
const Known& known(NamespaceKind kind) { return kKnown[static_cast<int>(kind)]; }

}  // namespace

int clone_flag(NamespaceKind kind) { return known(kind).flag; }
const char* namespace_name(NamespaceKind kind) { return known(kind).name; }
const char* namespace_file(NamespaceKind kind) { return known(kind).file; }

std::uint64_t new_namespaces(const Plan& plan) {
  std::uint64_t flags = 0;
  for (const Namespace& n : plan.namespaces)
    if (n.join.empty() && n.kind != NamespaceKind::Cgroup && (n.kind != NamespaceKind::Time || plan.time_offsets.empty())) flags |= static_cast<std::uint64_t>(clone_flag(n.kind));
  return flags;
}

bool shares_namespace(pid_t pid, NamespaceKind kind) {
  struct stat theirs, ours;
  std::string file = namespace_file(kind);
  if (::stat(fmt::format("/proc/{}/ns/{}", pid, file).c_str(), &theirs) == -1) {
    if (kind == NamespaceKind::Time && errno == ENOENT) return true;
    fail(errno, "look at the {} namespace of process {}", namespace_name(kind), pid);
  }
  check(::stat(("/proc/self/ns/" + file).c_str(), &ours), "look at our {} namespace", namespace_name(kind));
  return ours.st_ino == theirs.st_ino && ours.st_dev == theirs.st_dev;
}

void enter_namespaces(const Plan& plan, const std::vector<Fd>& joins) {
  for (std::size_t i = 0; i < plan.namespaces.size(); ++i)
    if (joins[i] && plan.namespaces[i].kind != NamespaceKind::Pid)
      check(::setns(joins[i].get(), clone_flag(plan.namespaces[i].kind)), "join the {} namespace of {}",
            namespace_name(plan.namespaces[i].kind), plan.namespaces[i].join);
}

void make_cgroup_namespace(const Plan& plan) {
  if (plan.makes(NamespaceKind::Cgroup)) check(::unshare(CLONE_NEWCGROUP), "make a cgroup namespace");
}

void make_time_namespace(const Plan& plan) {
  if (plan.time_offsets.empty()) return;
  check(::unshare(CLONE_NEWTIME), "make a time namespace");
  std::string lines;
  for (const auto& [clock, offset] : plan.time_offsets) lines += fmt::format("{} {} {}\n", clock, offset.first, offset.second);
  write_file("/proc/self/timens_offsets", lines);
  Fd own = open_file("/proc/self/ns/time_for_children", O_RDONLY);
  check(::setns(own.get(), CLONE_NEWTIME), "enter the new time namespace");
}

PidNamespaceOfChildren::PidNamespaceOfChildren(const Plan& plan, const std::vector<Fd>& joins) {
  for (std::size_t i = 0; i < plan.namespaces.size(); ++i) {
    if (plan.namespaces[i].kind != NamespaceKind::Pid || !joins[i]) continue;
    own_ = open_file("/proc/self/ns/pid", O_RDONLY);
    check(::setns(joins[i].get(), CLONE_NEWPID), "join the pid namespace of {}", plan.namespaces[i].join);
  }
}

void PidNamespaceOfChildren::leave() noexcept {
  if (own_) ::setns(own_.get(), CLONE_NEWPID);
  own_.close();
}

}  // namespace isolate
