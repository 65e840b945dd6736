#include "isolate/listener.h"

#include <fcntl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "isolate/sys/error.h"
#include "isolate/sys/file.h"
#include "isolate/sys/paths.h"
#include "isolate/sys/socket.h"

namespace isolate {

using namespace sys;

namespace {

constexpr int kPatience = 5000;  // milliseconds for one system call of the child

// The lowest free one, which the kernel is going to take.
int next_descriptor() {
  int number = check(::fcntl(0, F_DUPFD_CLOEXEC, 3), "find a free descriptor");
  ::close(number);
  return number;
}

bool is_listener(const Fd& descriptor) {
  return find_link(fd_path(descriptor.get())).value_or("").find("seccomp notify") != std::string::npos;
}

// From outside: behind its filter the child may do nothing that the agent has not answered, and there is no agent before it has this.
Fd take_listener(const Child& child, int number) {
  for (int waited = 0; waited < kPatience; ++waited) {
    Fd taken(static_cast<int>(::syscall(SYS_pidfd_getfd, child.pidfd(), number, 0)));
    if (taken && is_listener(taken)) return taken;
    if (!taken && errno != EBADF) fail(errno, "take the seccomp listener out of process {}", child.pid());
    timespec moment{0, 1'000'000};
    ::nanosleep(&moment, nullptr);
  }
  fail(ETIMEDOUT, "wait for the seccomp listener of process {}", child.pid());
}

Fd connect_to_agent(const std::string& path) {
  try {
    return connect_to(path, SOCK_STREAM);
  } catch (const SystemError& error) {
    fail(error.code(), "failed to connect with seccomp agent specified in the seccomp profile ({})", path);
  }
}

}  // namespace

void load_filters(const std::vector<Filter>& filters, Link& link) {
  for (const Filter& filter : filters) {
    if (!filter.listener.empty()) link.send(Signal::Listener, std::to_string(next_descriptor()));
    load_filter(filter);
    // Execve closes it. By read(2), which is the last call that a filter would forbid.
    char taken = 0;
    if (!filter.listener.empty() && check(::read(link.fd(), &taken, 1), "wait until the seccomp agent has the listener") == 0)
      fail(EPIPE, "give the seccomp agent the listener (who takes it has gone)");
  }
}

void pass_listeners(const std::vector<Filter>& filters, Link& link, const Child& child, const ListenerState& state) {
  for (const Filter& filter : filters) {
    if (filter.listener.empty()) continue;
    int number = std::stoi(link.expect(Signal::Listener).bytes);
    Fd listener = take_listener(child, number), agent = connect_to_agent(filter.listener);
    send_message(agent.get(), state(filter, child.pid()), {listener.get()});
    link.send(Signal::Go);
  }
}

}  // namespace isolate
