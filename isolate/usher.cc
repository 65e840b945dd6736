#include "isolate/usher.h"

#include <sched.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>

#include "isolate/link.h"
#include "isolate/namespaces.h"
#include "isolate/sys/error.h"
#include "isolate/sys/file.h"

namespace isolate {

using namespace sys;

namespace {

// With our own rights first: a network namespace may be of another owner than the user namespace beside it. What these are not enough
// for, as with an ordinary user, is joined with the rights that the user namespace gives.
void join_all(const Plan& plan, const std::vector<Fd>& joins) {
  auto join = [&](std::size_t i, bool may_fail) {
    const Namespace& n = plan.namespaces[i];
    if (::setns(joins[i].get(), clone_flag(n.kind)) == 0) return true;
    if (may_fail && errno == EPERM) return false;
    fail(errno, "join the {} namespace of {}", namespace_name(n.kind), n.join);
  };
  std::vector<std::size_t> later;
  std::size_t user = joins.size();
  for (std::size_t i = 0; i < joins.size(); ++i) {
    if (!joins[i] || plan.namespaces[i].kind == NamespaceKind::Pid) continue;
    if (plan.namespaces[i].kind == NamespaceKind::User) user = i;
    else if (!join(i, true)) later.push_back(i);
  }
  join(user, false);
  for (std::size_t i : later) join(i, false);
}

// The pid that the receiver knows it by: the usher may be in another pid namespace.
pid_t pid_of(const Fd& pidfd) {
  std::string info = read_file(fmt::format("/proc/self/fdinfo/{}", pidfd.get()));
  std::size_t at = info.find("\nPid:");
  int pid = 0;
  if (at == std::string::npos || std::sscanf(info.c_str() + at + 5, "%d", &pid) != 1 || pid <= 0) fail(ESRCH, "find the pid of the sandbox");
  return pid;
}

}  // namespace

bool joins_user_namespace(const Plan& plan) {
  return std::any_of(plan.namespaces.begin(), plan.namespaces.end(), [](const Namespace& n) { return n.kind == NamespaceKind::User && !n.join.empty(); });
}

Child clone_through_usher(const Plan& plan, const std::vector<Fd>& joins, int cgroup) {
  auto [ours, theirs] = Link::make();
  Child usher = clone_process(0);
  if (usher.pid() != 0) {
    theirs.close();
    Fd pidfd = std::move(ours.expect(Signal::Go).fds.at(0));
    usher.wait();
    pid_t pid = pid_of(pidfd);
    Child child(pid, std::move(pidfd));
    // Not by CLONE_INTO_CGROUP: from within another container's cgroup namespace ours is not there (cgroups(7), nsdelegate).
    if (cgroup >= 0) write_file_at(cgroup, "cgroup.procs", std::to_string(pid));
    return child;
  }
  ours.close();
  try {
    join_all(plan, joins);
    Child child = clone_process(new_namespaces(plan) | CLONE_PARENT);
    if (child.pid() == 0) return child;
    theirs.send(Signal::Go, {}, {child.pidfd()});
    child.release();
  } catch (const std::exception& error) {
    theirs.report(Stage::Namespaces, error);
  }
  ::_exit(0);
}

}  // namespace isolate
