// System call filters: seccomp(2), compiled by libseccomp from rules.
#pragma once

#include <linux/filter.h>

#include <functional>
#include <string>
#include <vector>

#include "isolate/plan.h"
#include "isolate/sys/fd.h"

namespace isolate {

/// A compiled program and the flags it is loaded with. A value: it can be stored and sent.
struct Filter {
  std::vector<sock_filter> program;
  unsigned flags = 0;  // SECCOMP_FILTER_FLAG_*
  std::string listener, listener_metadata;  // SeccompRules::listener_path; load_filter() is for those that have none
};

/// What the agent at a filter's listener is told of the process with this pid: the specification's ContainerProcessState as JSON.
using ListenerState = std::function<std::string(const Filter&, pid_t)>;

bool has_listener(const std::vector<Filter>& filters);

/// Compiles, or finds the same rules compiled before in `cache` (a directory that only we can write to; empty: none).
/// Compiling costs 1.5 ms, reading a cached program 0.03 ms.
Filter make_filter(const SeccompRules& rules, const std::string& cache);

/// Loads it for this thread and what it starts; needs no_new_privs or CAP_SYS_ADMIN. The number of the listener's descriptor, or 0 without one.
int load_filter(const Filter& filter);

/// The number of a system call on this machine, -1 when unknown. Knows those newer than libseccomp.
int syscall_number(const std::string& name);

/// Whether libseccomp and this kernel know an action such as "SCMP_ACT_NOTIFY"; all that the kernel has, for `features`.
std::vector<std::string> kernel_seccomp_actions();

}  // namespace isolate
