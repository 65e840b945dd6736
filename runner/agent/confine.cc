#include "runner/agent/confine.h"

#include <grp.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>

#include "isolate/seccomp.h"
#include "isolate/sys/error.h"

namespace runner::agent {

using namespace isolate::sys;

namespace {

// What the loop does is: read and write files of one folder, sockets that it was given, threads, clocks. The list names what is refused and not what
// is allowed, since a C library changes what it calls; each of these is a way to more than that.
isolate::SeccompRules refused() {
  isolate::SeccompRules rules;
  rules.name = "runner-agent";
  rules.default_action = isolate::SeccompAction::Allow;
  isolate::SeccompRule rule;
  rule.action = isolate::SeccompAction::Errno;
  rule.errno_value = EPERM;
  rule.names = {"execve", "execveat", "socket", "connect", "bind", "listen", "ptrace", "process_vm_readv", "process_vm_writev", "pidfd_getfd", "kcmp", "mount", "umount2",
                "move_mount", "open_tree", "fsopen", "fsmount", "fsconfig", "mount_setattr", "pivot_root", "chroot", "unshare", "setns", "bpf", "perf_event_open",
                "userfaultfd", "io_uring_setup", "keyctl", "add_key", "request_key", "init_module", "finit_module", "delete_module", "kexec_load", "kexec_file_load",
                "open_by_handle_at", "personality", "fork", "vfork", "swapon", "swapoff", "reboot", "setuid", "setgid", "setresuid", "setresgid", "setgroups"};
  rules.rules.push_back(rule);
  return rules;
}

}  // namespace

std::string confine(const std::string& folder, std::uint32_t id) {
  rlimit no_core{0, 0};
  check(::setrlimit(RLIMIT_CORE, &no_core), "forbid core files");
  isolate::Filter filter = isolate::make_filter(refused(), "");
  std::string path = folder;
  if (::geteuid() == 0) {
    check(::chroot(folder.c_str()), "make {} the root of the job's process", folder);
    check(::chdir("/"), "go to /");
    check(::setgroups(0, nullptr), "give up groups");
    check(::setresgid(id, id, id), "become group {}", id);
    check(::setresuid(id, id, id), "become user {}", id);
    path = "";
  }
  // Changing the user has cleared it. A keeper that died in between is noticed when it is asked for something.
  check(::prctl(PR_SET_PDEATHSIG, SIGKILL), "ask for a signal when the keeper dies");
  check(::prctl(PR_SET_DUMPABLE, 0), "forbid to be looked into");
  check(::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "forbid new privileges");
  isolate::load_filter(filter);
  return path;
}

}  // namespace runner::agent
