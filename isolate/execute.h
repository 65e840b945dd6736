// The last steps before a program runs; shared by `run`, `create`, `exec` and nothing else.
#pragma once

#include <string>
#include <vector>

#include "isolate/sys/fd.h"

namespace isolate {

/// The program's path, looked up in PATH of `env` as execvp(3) does, inside the root. Throws ENOENT with the words
/// "executable file not found in $PATH", by which podman knows exit status 127.
std::string find_program(const std::vector<std::string>& argv, const std::vector<std::string>& env);

/// The environment with HOME, if it has none: from /etc/passwd of the root that we are in, as runc does. Read by hand, since libc's
/// getpwuid would load libraries from inside (CVE-2019-14271).
std::vector<std::string> with_home(std::vector<std::string> env, unsigned uid);

/// execve(2); throws when it fails.
[[noreturn]] void execute(const std::string& program, const std::vector<std::string>& argv, const std::vector<std::string>& env);

/// The same through `step` (a descriptor of runner-exec), so that /proc/self/exe never means this process's own file to what the
/// program's path, its #! line or its interpreter leads to. A failure is reported on `link`; -1: by exit status 126 or 127.
/// `profile` is AppArmor's, or empty.
[[noreturn]] void execute_through(int step, int link, const std::string& profile, const std::string& program, const std::vector<std::string>& argv,
                                  const std::vector<std::string>& env);

/// Executes PID 1 of a session from its descriptor, with `control` as descriptor 3.
void execute_init(int program, int control);

/// This process, which must have one thread, enters the v1 groups of these doors: Cgroup::v1_doors().
void enter_v1(std::vector<sys::Fd> doors);

/// Closes every descriptor from `first` on but `keep`. Before execve and not by it: a program or directory named
/// /proc/self/fd/N must not lead through one of ours (CVE-2024-21626).
void close_from(int first, std::vector<int> keep);

/// No signal blocked or ignored: what a supervisor does to its own must not reach the program. With `hold` all are blocked instead, and
/// wait for who will take them.
void reset_signals(bool hold = false);

/// SIGKILL for this process when its parent dies (PR_SET_PDEATHSIG). The caller has a socket to its parent, whose end of
/// stream tells of a parent that died before: getppid(2) does not, since a parent outside the pid namespace is always 0.
void die_with_parent();

/// Enters the working directory and proves that it lies inside the root (CVE-2024-21626).
void enter_directory(const std::string& path);

/// False where this process lacks the rights: it is tried with all rights, since the user may lack those of the folders above, and with the
/// user's, since in a user namespace all rights do not reach the files of others.
bool can_enter(const std::string& path);

}  // namespace isolate
