#include "isolate/hooks.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>

#include "isolate/execute.h"
#include "isolate/sys/child.h"
#include "isolate/sys/error.h"
#include "isolate/sys/file.h"

namespace isolate {

using namespace sys;

namespace {

constexpr std::size_t kMostSaid = 1000;  // bytes of what a hook that fails has printed

std::vector<std::string> own_environment() {
  std::vector<std::string> all;
  for (char** entry = environ; *entry; ++entry) all.emplace_back(*entry);
  return all;
}

[[noreturn]] void become_hook(const Hook& hook, const std::vector<std::string>& args, const std::vector<std::string>* env, int step) noexcept {
  try {
    std::vector<std::string> variables = hook.env ? *hook.env : env ? *env : own_environment();
    if (step >= 0) execute_through(step, -1, {}, hook.path, args, variables);
    execute(hook.path, args, variables);
  } catch (const SystemError& error) {
    ::_exit(error.code() == ENOENT ? 127 : 126);
  } catch (...) {
    ::_exit(126);
  }
}

// As runc says it, which engines and their tests know: "exit status 1", "signal: bad system call".
std::string how_it_ended(const Exit& exit) {
  if (exit.code == 127) return "no such file or directory";
  if (exit.code) return fmt::format("exit status {}", exit.code);
  return "signal: " + in_lower_case(::strsignal(exit.signal));
}

std::string said_on(const Fd& output) {
  std::string text(kMostSaid, '\0');
  text.resize(static_cast<std::size_t>(std::max<ssize_t>(0, ::pread(output.get(), text.data(), text.size(), 0))));
  while (!text.empty() && text.back() == '\n') text.pop_back();
  return text;
}

void run_hook(const Hook& hook, std::size_t number, const char* kind, const std::string& state, int step, const std::vector<std::string>* env) {
  // Files, and not pipes: a hook that never reads its input, or prints much, must not hold us.
  Fd input = memory_file("hook-state", state), output = memory_file("hook-output", "");
  std::vector<std::string> args = hook.args.empty() ? std::vector<std::string>{hook.path} : hook.args;
  Child child = clone_process(0);
  if (child.pid() == 0) {
    reset_signals();
    ::dup2(input.get(), 0);
    ::dup2(output.get(), 1);
    ::dup2(output.get(), 2);
    become_hook(hook, args, env, step);
  }
  auto failed = [&](const std::string& why) {
    std::string said = said_on(output);
    throw std::runtime_error(fmt::format("error running {} hook #{}: {}: {}{}{}", kind, number, hook.path, why, said.empty() ? "" : "; it has printed: ", said));
  };
  if (hook.timeout) {
    pollfd wait{child.pidfd(), POLLIN, 0};
    int ready;
    do ready = ::poll(&wait, 1, *hook.timeout * 1000);
    while (ready == -1 && errno == EINTR);
    if (ready == 0) failed(fmt::format("it ran for more than {} s", *hook.timeout));
  }
  if (Exit exit = child.wait(); exit != Exit{}) failed(how_it_ended(exit));
}

}  // namespace

void run_hooks(const std::vector<Hook>& hooks, const char* kind, const std::string& state, int step, const std::vector<std::string>* env) {
  for (std::size_t i = 0; i < hooks.size(); ++i) run_hook(hooks[i], i, kind, state, step, env);
}

}  // namespace isolate
