// `runner restore --image-path DIR ID`: a container goes on from what `checkpoint` has written.
#include <signal.h>

#include <optional>
#include <stdexcept>

#include "isolate/sys/file.h"
#include "runner/cli/checkpoint.h"
#include "runner/cli/container.h"
#include "runner/supervise/tty.h"

namespace runner::cli {

using namespace isolate::sys;

namespace {

struct Restoring {
  session::Entry& entry;
  session::State& state;
  oci::Container& container;
  snapshot::RestoreOptions& how;
};

isolate::Sandbox restore(Context& context, const CreateFlags& flags, Restoring it) {
  it.entry.write_state(it.state);
  auto scope = begin_cgroup(context, it.container, it.state);
  it.how.meanwhile = [&] { write_process(context, it.entry, it.container.plan); };
  it.how.hook_state = [&](const char* status, pid_t pid) { return state_json(it.state, status, pid); };
  it.how.on_restored = [&](pid_t pid) {
    it.state.pid = pid;
    it.state.start_time = session::start_time_of(pid);
    it.state.started = !it.state.held;
    it.entry.write_state(it.state);
  };
  isolate::Sandbox sandbox = snapshot::restore_container(context.directories(), context.cgroups(), it.container.plan, it.how);
  if (!flags.console_socket.empty()) {
    if (!sandbox.terminal()) throw std::runtime_error("the restored container has no terminal that --console-socket could get");
    send_console(flags.console_socket, sandbox.terminal().get());
  }
  if (!flags.pidfd_socket.empty()) send_pidfd(flags.pidfd_socket, sandbox.child());
  if (!flags.pid_file.empty()) replace_file(flags.pid_file, std::to_string(it.state.pid), 0644);
  return sandbox;
}

}  // namespace

Created restore_held(Context& context, const std::string& id, const CreateFlags& flags, oci::Container container) {
  session::State state = new_state(id, container);
  state.held = true;
  session::Entry entry = new_entry(context, id);
  try {
    snapshot::RestoreOptions how;
    how.images = container.asked.restore;
    how.work = entry.file("criu.work");
    how.criu = criu_program(context.globals);
    how.held = true;
    isolate::Sandbox sandbox = restore(context, flags, {entry, state, container, how});
    return Created{std::move(entry), std::move(state), std::move(container), std::move(sandbox)};
  } catch (...) {
    entry.remove();
    throw;
  }
}

int restore_container(Context& context) {
  CriuWords words;
  CreateFlags flags;
  Options options("restore", "Let a container go on from what `checkpoint` has written: runner restore --image-path DIR [--bundle DIR] ID\n"
                             "(A session comes back by `runner restore --from SNAPSHOT ID`.)");
  words.declare(options);
  options.value("-b,--bundle", flags.bundle, "directory of the bundle; the working directory by default");
  options.value("--pid-file", flags.pid_file, "where to write the pid of the container");
  options.value("--console-socket", flags.console_socket, "socket that gets the master of the terminal");
  options.flag("-d,--detach", flags.detach, "return once the container runs");
  options.flag("--no-pivot", flags.no_pivot, "accepted as runc has it: CRIU enters the root by itself");
  options.flag("--no-subreaper", flags.no_subreaper, "accepted as runc has it; no subreaper is used");
  std::string id = one_argument(context.parse(options), "restore");
  words.check();
  check_id(id);

  oci::Container container = load_container(context, id, flags);
  check_terminal(container.plan, flags, flags.detach);
  session::State state = new_state(id, container);
  session::Entry entry = new_entry(context, id);
  if (!flags.detach) supervise::catch_signals();  // from here on they are for the container: relay() passes them on
  std::optional<isolate::Sandbox> sandbox;
  try {
    snapshot::RestoreOptions how;
    words.give(how, context, entry.file("criu.work"));
    how.fresh_network = !words.empty_ns.empty();
    sandbox.emplace(restore(context, flags, {entry, state, container, how}));
    if (flags.detach) {
      sandbox->release();
      return 0;
    }
    if (sandbox->terminal()) supervise::copy_window_size(0, sandbox->terminal().get());
    Exit exit = supervise::relay(sandbox->child(), supervise::ends_of(std::move(sandbox->terminal())));
    sandbox->cgroup().remove();
    state.pid = 0;
    remove_container(context, entry, state);
    return exit.signal ? 128 + exit.signal : exit.code;
  } catch (...) {
    sandbox.reset();
    entry.remove();
    throw;
  }
}

}  // namespace runner::cli
