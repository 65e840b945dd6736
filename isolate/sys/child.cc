#include "isolate/sys/child.h"

#include <linux/sched.h>
#include <signal.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "isolate/sys/error.h"

namespace isolate::sys {

namespace {

// glibc 2.36 has P_PIDFD in <sys/wait.h>; its <sys/pidfd.h> lacks extern "C", hence the raw calls.
std::optional<Exit> wait_pidfd(int pidfd, int options) {
  siginfo_t info{};
  int result;
  do result = ::waitid(P_PIDFD, static_cast<id_t>(pidfd), &info, WEXITED | options);
  while (result == -1 && errno == EINTR);
  check(result, "wait for child");
  if (info.si_pid == 0) return std::nullopt;
  if (info.si_code == CLD_EXITED) return Exit{info.si_status, 0};
  return Exit{0, info.si_status};
}

}  // namespace

void signal_pidfd(int pidfd, int number) {
  if (::syscall(SYS_pidfd_send_signal, pidfd, number, nullptr, 0) == -1 && errno != ESRCH)
    fail(errno, "send signal {}", number);
}

Child& Child::operator=(Child&& other) noexcept {
  std::swap(pid_, other.pid_);
  std::swap(pidfd_, other.pidfd_);
  return *this;
}

Child::~Child() {
  if (pid_ == 0 || !pidfd_) return;
  ::syscall(SYS_pidfd_send_signal, pidfd_.get(), SIGKILL, nullptr, 0);
  siginfo_t info{};
  while (::waitid(P_PIDFD, static_cast<id_t>(pidfd_.get()), &info, WEXITED) == -1 && errno == EINTR) {
  }
}

void Child::signal(int number) const {
  if (pidfd_) signal_pidfd(pidfd_.get(), number);
}

Exit Child::wait() {
  Exit exit = *wait_pidfd(pidfd_.get(), 0);
  release();
  return exit;
}

std::optional<Exit> Child::try_wait() {
  auto exit = wait_pidfd(pidfd_.get(), WNOHANG);
  if (exit) release();
  return exit;
}

Child clone_process(std::uint64_t namespaces, int cgroup) {
  int pidfd = -1;
  clone_args args{};
  args.flags = namespaces | CLONE_PIDFD;
  args.pidfd = reinterpret_cast<std::uintptr_t>(&pidfd);
  args.exit_signal = namespaces & CLONE_PARENT ? 0 : SIGCHLD;  // a sibling has that of its maker, and may not be given one
  if (cgroup >= 0) {
    args.flags |= CLONE_INTO_CGROUP;
    args.cgroup = static_cast<std::uint64_t>(cgroup);
  }
  long pid = check(::syscall(SYS_clone3, &args, sizeof args), "clone a process into its namespaces");
  if (pid == 0) return Child();
  return Child(static_cast<pid_t>(pid), Fd(pidfd));
}

}  // namespace isolate::sys
