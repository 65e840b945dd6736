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

void check_terminal(const isolate::Plan& plan, const CreateFlags& flags) {
  bool wants = plan.process.terminal.has_value();
  if (wants && flags.detach && flags.console_socket.empty())
    throw std::runtime_error("process.terminal is true and runner will not stay: give --console-socket, which takes the terminal");
  if (!flags.console_socket.empty() && !(wants && flags.detach))
    throw std::runtime_error(wants ? "--console-socket is for a detached container" : "--console-socket: process.terminal is not true");
}

}  // namespace

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
  check_terminal(container.plan, flags);
  session::State state = new_state(id, container);
  session::Entry entry = new_entry(context, id);
  if (!flags.detach) supervise::catch_signals();  // from here on they are for the container: relay() passes them on
  std::optional<isolate::Sandbox> sandbox;
  try {
    entry.write_state(state);
    snapshot::RestoreOptions restore;
    restore.meanwhile = [&] { write_process(context, entry, container.plan); };
    words.give(restore, context, entry.file("criu.work"));
    restore.fresh_network = !words.empty_ns.empty();
    restore.hook_state = [&](const char* status, pid_t pid) { return state_json(state, status, pid); };
    restore.on_restored = [&](pid_t pid) {
      state.pid = pid;
      state.start_time = session::start_time_of(pid);
      state.started = true;
      entry.write_state(state);
    };
    sandbox.emplace(snapshot::restore_container(context.directories(), context.cgroups(), container.plan, restore));
    if (!flags.console_socket.empty()) {
      if (!sandbox->terminal()) throw std::runtime_error("the restored container has no terminal that --console-socket could get");
      send_console(flags.console_socket, sandbox->terminal().get());
    }
    if (!flags.pid_file.empty()) replace_file(flags.pid_file, std::to_string(state.pid), 0644);
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
