// `runner run [-b DIR] ID`: create and start in one, as runc has it.
#include <signal.h>

#include "runner/cli/container.h"
#include "runner/cli/container_events.h"
#include "runner/cli/ready_socket.h"
#include "runner/cli/run.h"
#include "runner/supervise/tty.h"

namespace runner::cli {

using namespace isolate::sys;

namespace {

void thaw(Context& context, Created& created) {
  isolate::Cgroup::open(created.state.cgroup, context.cgroups()).freeze(false);
  created.state.held = false;
  created.state.started = true;
  created.entry.write_state(created.state);
}

}  // namespace

int run_container(Context& context) {
  CreateFlags flags;
  Options options("run", "Create and start a container from a bundle (a session is `runner run [flags] -- COMMAND`).");
  flags.declare(options);
  std::string id = one_argument(context.parse(options), "run", "ID");

  // From here on signals are for the container: relay() passes on those that have come until then.
  if (!flags.detach) supervise::catch_signals();
  Created created = create_container(context, id, flags, false);
  try {
    if (created.sandbox.terminal() && !flags.detach) {  // before the program asks for it
      supervise::copy_window_size(0, created.sandbox.terminal().get());
      supervise::leave_newlines(created.sandbox.terminal().get());
    }
    ReadySocket ready = ReadySocket::listen(created.entry, created.state);
    if (created.state.held) thaw(context, created);
    else created.sandbox.execute(state_json(created.state, "created", created.state.pid));
    tell(created.entry, created.state, events::ContainerCreated{id, created.state.bundle, created.state.pid});
    tell(created.entry, created.state, events::ContainerStarted{created.state.pid});
    run_poststart(created.state);
    if (flags.detach) {
      ready.wait(created.sandbox.child().pidfd(), created.state.pid);
      created.sandbox.release();
      return 0;
    }
    Child tells = ready.wait_aside(created.sandbox.child().pidfd());
    Exit exit = supervise::relay(created.sandbox.child(), supervise::ends_of(std::move(created.sandbox.terminal())));
    events::ContainerExited exited;
    (exit.signal ? exited.signal : exited.exit) = exit.signal ? exit.signal : exit.code;
    tell(created.entry, created.state, exited);
    created.state.pid = 0;
    if (flags.keep) created.sandbox.cgroup().kill(), created.sandbox.cgroup().leave(), created.entry.write_state(created.state);
    else remove_container(context, created.entry, created.state);
    return exit.signal ? 128 + exit.signal : exit.code;
  } catch (...) {
    created.sandbox.child().signal(SIGKILL);
    remove_container(context, created.entry, created.state);
    throw;
  }
}

}  // namespace runner::cli
