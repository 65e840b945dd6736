#include "isolate/init/alone.h"

#include <fmt/format.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>

namespace isolate::init {

namespace {

[[noreturn]] void become(char* const* argv, const sigset_t& before) {
  ::setpgid(0, 0);
  ::tcsetpgrp(0, ::getpgrp());  // SIGTTOU is blocked; ENOTTY where there is no terminal
  // sd_listen_fds(3) wants its own pid.
  if (const char* pid = std::getenv("LISTEN_PID"); pid && std::strcmp(pid, "1") == 0) ::setenv("LISTEN_PID", std::to_string(::getpid()).c_str(), 1);
  ::sigprocmask(SIG_SETMASK, &before, nullptr);
  ::execvp(argv[0], argv);
  int error = errno;
  fmt::print(stderr, "runner-init: cannot execute {}: {}\n", argv[0], std::strerror(error));
  ::_exit(error == ENOENT ? 127 : 126);
}

// Of whoever has ended; true when it was `child`, whose status it is then.
bool reap(pid_t child, int& status) {
  int last = 0;
  bool over = false;
  for (pid_t pid; (pid = ::waitpid(-1, &last, WNOHANG)) > 0;)
    if (pid == child) over = true, status = last;
  return over;
}

}  // namespace

int run_alone(char* const* argv) {
  sigset_t all, before;
  ::sigfillset(&all);
  ::sigprocmask(SIG_SETMASK, &all, &before);
  pid_t child = ::fork();
  if (child == -1) {
    fmt::print(stderr, "runner-init: cannot start {}: {}\n", argv[0], std::strerror(errno));
    return 125;
  }
  if (child == 0) become(argv, before);
  for (;;) {
    int number = ::sigwaitinfo(&all, nullptr), status = 0;
    if (number != SIGCHLD && number > 0) ::kill(child, number);
    if (number == SIGCHLD && reap(child, status)) return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
  }
}

}  // namespace isolate::init
