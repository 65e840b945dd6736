#include <signal.h>

#include <stdexcept>

#include "isolate/namespaces.h"
#include "isolate/sys/child.h"
#include "isolate/sys/error.h"
#include "runner/cli/awake.h"
#include "runner/cli/container.h"
#include "runner/cli/container_events.h"

namespace runner::cli {

namespace {

bool shares_pids(pid_t pid) {
  try {
    return isolate::shares_namespace(pid, isolate::NamespaceKind::Pid);
  } catch (const isolate::sys::SystemError&) {
    return false;  // it has gone already
  }
}

}  // namespace

int kill_main(Context& context) {
  bool all = false;
  Options options("kill", "Send a signal (TERM by default) to the first process of a container or session.");
  options.flag("-a,--all", all, "to all processes");
  std::vector<std::string> arguments = context.parse(options);
  if (arguments.empty() || arguments.size() > 2) throw UsageError("kill: takes an ID and at most one signal");
  int number = signal_number(arguments.size() > 1 ? arguments[1] : "TERM");
  session::Entry entry = context.entry(arguments[0]);
  session::State state = entry.read_state();
  isolate::sys::Fd awake = number == SIGKILL ? isolate::sys::Fd() : awaken(context, entry, state);
  isolate::Cgroup cgroup = isolate::Cgroup::open(state.cgroup, context.cgroups());
  isolate::sys::Fd process = session::open_process(state);
  // Without a pid namespace of its own the others live on when the first one is gone: they are the container then.
  if (all || (!process && !state.is_session && !state.cgroup.empty() && cgroup.populated())) {
    if (number == SIGKILL) cgroup.kill();
    else
      for (pid_t pid : cgroup.processes()) ::kill(pid, number);
    tell(entry, state, events::ContainerSignaled{number, true});
    return 0;
  }
  if (!process) throw std::runtime_error("container not running");
  bool with_others = number == SIGKILL && !state.is_session && !state.cgroup.empty() && shares_pids(state.pid);  // while it is there to be asked
  isolate::sys::signal_pidfd(process.get(), number);
  tell(entry, state, events::ContainerSignaled{number, false});
  if (with_others) cgroup.kill();
  // A frozen process dies only once it is thawed.
  if (number == SIGKILL && !state.cgroup.empty() && cgroup.frozen()) cgroup.kill();
  return 0;
}

}  // namespace runner::cli
