// A child process held by its pidfd.
#pragma once

#include <sched.h>
#include <sys/types.h>

#include <cstdint>
#include <optional>

#include "isolate/sys/fd.h"

namespace isolate::sys {

/// How a process ended: waitid(2).
struct Exit {
  int code = 0;    ///< exit status, when signal is 0
  int signal = 0;  ///< the signal that killed it, or 0
  bool operator==(const Exit&) const = default;
};

/// Owns a child: kills and reaps it when destroyed, unless released.
class Child {
 public:
  Child() noexcept = default;
  Child(pid_t pid, Fd pidfd) noexcept : pid_(pid), pidfd_(std::move(pidfd)) {}
  Child(Child&& other) noexcept : pid_(std::exchange(other.pid_, 0)), pidfd_(std::move(other.pidfd_)) {}
  Child& operator=(Child&& other) noexcept;
  ~Child();

  pid_t pid() const noexcept { return pid_; }
  int pidfd() const noexcept { return pidfd_.get(); }
  void signal(int number) const;        ///< ESRCH is no error: it is gone
  Exit wait();                          ///< blocks; reaps
  std::optional<Exit> try_wait();       ///< empty while it runs; reaps when it has ended
  pid_t release() noexcept { pidfd_.close(); return std::exchange(pid_, 0); }  ///< it lives on without us

 private:
  pid_t pid_ = 0;
  Fd pidfd_;
};

/// clone3(2) as fork does it (copy of memory and descriptors), with CLONE_PIDFD; `cgroup` is a cgroup v2
/// directory into which the child is born, or -1. Returns an empty Child in the child itself. With CLONE_PARENT it is the child of our
/// parent, for whom the result is: to be released here.
/// The caller must be single-threaded: libc's fork handlers do not run.
Child clone_process(std::uint64_t namespaces, int cgroup = -1);

/// Sends through a pidfd; ESRCH is no error.
void signal_pidfd(int pidfd, int number);

}  // namespace isolate::sys
