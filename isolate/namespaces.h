// Namespaces to make and to join: namespaces(7).
#pragma once

#include <vector>

#include "isolate/plan.h"
#include "isolate/sys/fd.h"

namespace isolate {

int clone_flag(NamespaceKind kind);
const char* namespace_name(NamespaceKind kind);  ///< the OCI specification's word: "network"
const char* namespace_file(NamespaceKind kind);  ///< under /proc/PID/ns: "net"

/// Whether this process is in that namespace already: setns(2) refuses to enter the user namespace that one is in. Where the kernel
/// has no such kind (time before Linux 5.6), all are in one.
bool shares_namespace(pid_t pid, NamespaceKind kind);

/// The CLONE_NEW* flags for clone3. Without CLONE_NEWCGROUP, whose root would be the parent's group (make_cgroup_namespace()), and without
/// a time namespace that gets offsets (make_time_namespace()).
std::uint64_t new_namespaces(const Plan& plan);

/// In the child: joins what the plan joins (`joins` holds a descriptor for each, or an empty one).
void enter_namespaces(const Plan& plan, const std::vector<sys::Fd>& joins);

/// Its root is the group that the caller is in by now.
void make_cgroup_namespace(const Plan& plan);

/// With clocks of its own. They can be set only as long as nobody is in it: so the child makes it, sets them, and enters (time_namespaces(7)).
void make_time_namespace(const Plan& plan);

/// While it lives, children of this process are born in the pid namespace that the plan joins, if it joins one.
class PidNamespaceOfChildren {
 public:
  PidNamespaceOfChildren(const Plan& plan, const std::vector<sys::Fd>& joins);
  ~PidNamespaceOfChildren() { leave(); }
  void leave() noexcept;

 private:
  sys::Fd own_;
};

}  // namespace isolate
