// What the verbs of the OCI runtime have in common: the life of a container between its bundle and its removal.
#pragma once

#include <optional>
#include <string>

#include "isolate/start.h"
#include "runner/cli/context.h"
#include "runner/oci/config.h"
#include "runner/systemd/scope.h"

namespace runner::cli {

struct CreateFlags {
  std::string bundle, config, pid_file, console_socket, pidfd_socket;
  int preserve_fds = 0;
  bool no_pivot = false, no_new_keyring = false, detach = false, keep = false, no_subreaper = false;

  void declare(Options& options);  ///< of `create` and of `run` alike
};

/// A container that waits for execve: the entry is there, locked, and its state is "created".
struct Created {
  session::Entry entry;
  session::State state;
  oci::Container container;
  isolate::Sandbox sandbox;
};

/// Everything up to execve. With `gate` the process waits for `start`, else for Sandbox::execute. On failure nothing is left.
Created create_container(Context& context, const std::string& id, const CreateFlags& flags, bool gate);

// The parts of it, which a restore needs as well.
/// The bundle's config.json. Throws with all that is wrong with it; its warnings are reported.
oci::Container load_container(Context& context, const std::string& id, const CreateFlags& flags);
/// The annotation dev.runner.init.
void run_under_init(isolate::Plan& plan);
session::State new_state(const std::string& id, const oci::Container& container);
/// Which group the container is in, and where it sees it. With --systemd-cgroup systemd makes the group, and keeps it while the result lives.
std::optional<systemd::Scope> begin_cgroup(Context& context, oci::Container& container, session::State& state);
session::Entry new_entry(Context& context, const std::string& id);
/// What `exec` starts from.
void write_process(Context& context, const session::Entry& entry, const isolate::Plan& plan);

/// Throws when the container wants a terminal that nobody would hold, or the reverse. `leaves`: we do not stay with it.
void check_terminal(const isolate::Plan& plan, const CreateFlags& flags, bool leaves);

/// The specification's state, for hooks, `state` and `list`.
std::string state_json(const session::State& state, const char* status, pid_t pid);

/// What the agent of a seccomp listener is told: the specification's ContainerProcessState.
std::string listener_json(const session::State& state, const char* status, const isolate::Filter& filter, pid_t pid);

/// poststart hooks; when one fails the container is stopped, as the specification's life cycle says.
void run_poststart(const session::State& state);

/// Kills what is left, removes cgroup and entry, then runs the poststop hooks, which may only warn.
void remove_container(Context& context, session::Entry& entry, const session::State& state);

/// Gives the master of a terminal to whoever listens on the socket of --console-socket.
void send_console(const std::string& socket, int master);

/// Gives a process's pidfd to whoever listens on the socket of --pidfd-socket.
void send_pidfd(const std::string& socket, const isolate::sys::Child& child);

/// A number, SIGTERM or TERM; throws UsageError.
int signal_number(const std::string& text);

}  // namespace runner::cli
