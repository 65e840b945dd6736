#include "isolate/hooks.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <unistd.h>

#include "isolate/execute.h"
#include "isolate/sys/child.h"
#include "isolate/sys/error.h"
#include "isolate/sys/file.h"

namespace isolate {

using namespace sys;

namespace {

[[noreturn]] void become_hook(const Hook& hook, const std::vector<std::string>& args, int step) noexcept {
  try {
    if (step >= 0) execute_through(step, -1, hook.path, args, hook.env);
    execute(hook.path, args, hook.env);
  } catch (const SystemError& error) {
    ::_exit(error.code() == ENOENT ? 127 : 126);
  } catch (...) {
    ::_exit(126);
  }
}

void run_hook(const Hook& hook, const char* kind, const std::string& state, int step) {
  Fd input = memory_file("hook-state", state);  // and not a pipe: a hook that never reads its input must not hold us
  std::vector<std::string> args = hook.args.empty() ? std::vector<std::string>{hook.path} : hook.args;
  Child child = clone_process(0);
  if (child.pid() == 0) {
    reset_signals();
    ::dup2(input.get(), 0);
    become_hook(hook, args, step);
  }
  if (hook.timeout) {
    pollfd wait{child.pidfd(), POLLIN, 0};
    int ready;
    do ready = ::poll(&wait, 1, *hook.timeout * 1000);
    while (ready == -1 && errno == EINTR);
    if (ready == 0) fail(ETIMEDOUT, "run hook {} ({}) for more than {} s", hook.path, kind, *hook.timeout);
  }
  Exit exit = child.wait();
  if (exit.code == 127) fail(ENOENT, "run hook {} ({})", hook.path, kind);
  if (exit.signal) fail(ECANCELED, "run hook {} ({}): killed by signal {}", hook.path, kind, exit.signal);
  if (exit.code) fail(ECANCELED, "run hook {} ({}): exit status {}", hook.path, kind, exit.code);
}

}  // namespace

void run_hooks(const std::vector<Hook>& hooks, const char* kind, const std::string& state, int step) {
  for (const Hook& hook : hooks) run_hook(hook, kind, state, step);
}

}  // namespace isolate
