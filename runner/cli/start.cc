#include <sys/socket.h>
#include <unistd.h>

#include "isolate/sys/error.h"
#include "isolate/sys/socket.h"
#include "runner/cli/container.h"
#include "runner/cli/container_events.h"
#include "runner/cli/ready_socket.h"

namespace runner::cli {

using namespace isolate::sys;

int start_main(Context& context) {
  Options options("start", "Start a container that `create` has made.");
  session::Entry entry = context.entry(one_argument(context.parse(options), "start"));
  session::State state = entry.read_state();
  session::Status status = session::status_of(state, context.cgroups());
  if (status == session::Status::Creating) {  // somebody saw it, and was quicker than `create`
    entry.lock();
    entry.unlock();
    state = entry.read_state();
    status = session::status_of(state, context.cgroups());
  }
  if (status == session::Status::Stopped) throw std::runtime_error("cannot start a container that has stopped");
  if (status != session::Status::Created) throw std::runtime_error("cannot start an already running container");

  ReadySocket ready = ReadySocket::listen(entry, state);
  if (state.held) {
    isolate::Cgroup::open(state.cgroup, context.cgroups()).freeze(false);
  } else {
    isolate::Link link(connect_to(entry.file("start.sock"), SOCK_SEQPACKET));
    isolate::open_gate(std::move(link), state_json(state, "created", state.pid));
    ::unlink(entry.file("start.sock").c_str());
  }
  state.held = false;
  state.started = true;
  entry.write_state(state);
  tell(entry, state, events::ContainerStarted{state.pid});
  run_poststart(state);
  if (Fd process = session::open_process(state)) ready.wait(process.get(), state.pid);
  return 0;
}

}  // namespace runner::cli
