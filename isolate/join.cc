#include "isolate/join.h"

#include <fcntl.h>
#include <sched.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "isolate/birth.h"
#include "isolate/execute.h"
#include "isolate/link.h"
#include "isolate/listener.h"
#include "isolate/namespaces.h"
#include "isolate/privileges.h"
#include "isolate/scheduling.h"
#include "isolate/sys/error.h"
#include "isolate/sys/file.h"
#include "isolate/terminal.h"

namespace isolate {

using namespace sys;

namespace {

constexpr int kSetupFailed = 125;

int different_namespaces(pid_t pid) {
  int flags = 0;
  for (int i = 0; i <= static_cast<int>(NamespaceKind::Time); ++i) {
    auto kind = static_cast<NamespaceKind>(i);
    if (!shares_namespace(pid, kind)) flags |= clone_flag(kind);
  }
  return flags;
}

[[noreturn]] void become_joined(const Process& process, const JoinOptions& options, int namespaces, std::vector<Fd> groups, Link link) noexcept {
  Stage stage = Stage::Start;
  try {
    if (options.die_with_parent) die_with_parent();
    ::umask(022);
    reset_signals();
    if (!process.exec_cpus_initial.empty()) set_affinity(process.exec_cpus_initial);
    enter_v1(std::move(groups));
    process.exec_cpus.empty() ? reset_affinity() : set_affinity(process.exec_cpus);

    stage = Stage::Namespaces;
    if (namespaces) check(::setns(options.pidfd, namespaces), "join the namespaces of process {}", options.pid);
    check(::chdir("/"), "enter directory {}", "/");

    stage = Stage::Terminal;
    for (int i = 0; i < 3; ++i)
      if (options.stdio[i] >= 0) check(::dup2(options.stdio[i], i), "set standard descriptor {}", i);
    ::setsid();
    if (process.terminal) {
      TerminalPair terminal = open_terminal(open_dir("/").get(), *process.terminal, process.uid);
      take_terminal(terminal.slave.get());
      link.send(Signal::Terminal, {}, {terminal.master.get()});
    }

    stage = Stage::Privileges;
    set_rlimits(process.rlimits);
    set_scheduling(process);
    bool early_filter = !process.no_new_privileges;
    close_from(3 + options.preserve_fds, {link.fd(), options.exec_program});  // which a filter may forbid
    if (early_filter) load_filters(options.filters, link);
    bool inside = can_enter(process.cwd);
    become_user(process, process.capabilities, options.lock_privileges);
    if (options.die_with_parent) die_with_parent();
    if (process.no_new_privileges) forbid_new_privileges();
    if (!inside) enter_directory(process.cwd);
    std::string program = find_program(process.argv, process.env);
    std::vector<std::string> env = with_home(process.env, process.uid);  // it reads a file, which a filter may forbid

    stage = Stage::Seccomp;
    if (!early_filter) load_filters(options.filters, link);

    stage = Stage::Exec;
    link.send(Signal::Step);
    execute_through(options.exec_program, link.fd(), process.apparmor, program, process.argv, env);
  } catch (const std::exception& error) {
    link.report(stage, error);
  }
  ::_exit(kSetupFailed);
}

}  // namespace

Joined join(const Process& process, const JoinOptions& options) {
  Stage stage = Stage::Prepare;
  try {
    int namespaces = different_namespaces(options.pid);
    std::vector<Fd> groups;
    if (options.cgroup) groups = options.cgroup->v1_doors();
    auto [ours, theirs] = Link::make();
    // The pid namespace is for children only, so the parent joins it. An ordinary user gets the right to do so from the
    // sandbox's user namespace, and has no use for its own afterwards.
    int parents_share = namespaces & (::geteuid() == 0 ? CLONE_NEWPID : CLONE_NEWPID | CLONE_NEWUSER);
    if (parents_share) check(::setns(options.pidfd, parents_share), "join the namespaces of process {}", options.pid);

    stage = Stage::Clone;
    std::optional<Birth> birth(std::in_place, process.oom_score_adj);
    Child child = clone_process(0, options.cgroup ? options.cgroup->v2_fd() : -1);
    if (child.pid() == 0) {
      ours.close();
      become_joined(process, options, namespaces & ~parents_share, std::move(groups), std::move(theirs));
    }
    birth.reset();
    theirs.close();

    stage = Stage::Start;
    Fd terminal;
    if (process.terminal) terminal = std::move(ours.expect(Signal::Terminal).fds.at(0));
    pass_listeners(options.filters, ours, child, options.listener_state);
    ours.expect_end();
    return Joined{std::move(child), std::move(terminal)};
  } catch (const SetupError&) {
    throw;
  } catch (const std::exception& error) {
    throw SetupError(describe(stage, error));
  }
}

}  // namespace isolate
