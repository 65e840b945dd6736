#include "runner/cli/container.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <nlohmann/json.hpp>

#include "isolate/apparmor.h"
#include "isolate/hooks.h"
#include "isolate/namespaces.h"
#include "isolate/sealed.h"
#include "isolate/sys/error.h"
#include "isolate/sys/file.h"
#include "isolate/sys/socket.h"
#include "runner/cli/checkpoint.h"
#include "runner/cli/container_events.h"
#include "runner/cli/ready_socket.h"
#include "runner/cli/tighten.h"
#include "runner/oci/hierarchies.h"
#include "runner/plan/session_plan.h"
#include "runner/session/time.h"

namespace runner::cli {

using namespace isolate::sys;

void CreateFlags::declare(Options& options) {
  options.value("-b,--bundle", bundle, "directory of the bundle; the working directory by default");
  options.value("-f,--config", config, "name of config.json in the bundle");
  options.value("--pid-file", pid_file, "where to write the pid of the container");
  options.value("--console-socket", console_socket, "socket that gets the master of the terminal");
  options.value("--pidfd-socket", pidfd_socket, "socket that gets a descriptor of the container's process, pidfd_open(2)");
  options.number("--preserve-fds", preserve_fds, "how many descriptors from 3 on the container inherits");
  options.flag("--no-pivot", no_pivot, "move and chroot instead of pivot_root, for a root on a ramdisk");
  options.flag("--no-new-keyring", no_new_keyring, "accepted as runc has it; no keyring is made");
  options.flag("-d,--detach", detach, "return once the container runs");
  options.flag("--keep", keep, "do not delete the container when it has ended");
  options.flag("--no-subreaper", no_subreaper, "accepted as runc has it; no subreaper is used");
}

std::string state_json(const session::State& state, const char* status, pid_t pid) {
  nlohmann::ordered_json j{{"ociVersion", state.oci_version}, {"id", state.id},         {"pid", pid},
                           {"status", status},                {"bundle", state.bundle}, {"rootfs", state.rootfs},
                           {"created", state.created},        {"annotations", state.annotations},
                           {"owner", state.owner == 0 ? "root" : std::to_string(state.owner)}};
  return j.dump(2, ' ', false, nlohmann::json::error_handler_t::replace);
}

std::string listener_json(const session::State& state, const char* status, const isolate::Filter& filter, pid_t pid) {
  nlohmann::ordered_json j{{"ociVersion", state.oci_version}, {"fds", {"seccompFd"}}, {"pid", pid}, {"metadata", filter.listener_metadata},
                           {"state", nlohmann::ordered_json::parse(state_json(state, status, state.pid ? state.pid : pid))}};
  return j.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

void run_under_init(isolate::Plan& plan) {
  plan.mounts.push_back(plan::init_mount(helper_path("runner-init")));
  plan.process.argv.insert(plan.process.argv.begin(), {isolate::kInitProgram, "--"});
}

namespace {

systemd::Scope started_scope(oci::Container& container, session::State& state) {
  const auto& [unit, slice] = *container.scope;
  auto scope = systemd::Scope::start(helper_path("runner-systemd"), unit, slice, "runner container " + state.id, container.plan.cgroup.limits);
  container.plan.cgroup.path = state.cgroup = scope.cgroup();
  container.plan.cgroup.given = true;
  state.scope = unit;
  return scope;
}

}  // namespace

oci::Container load_container(Context& context, const std::string& id, const CreateFlags& flags) {
  oci::LoadOptions load;
  load.id = id;
  load.no_pivot = flags.no_pivot;
  load.privileged = ::geteuid() == 0;
  load.cgroups_disabled = context.globals.cgroup_manager == "disabled";
  load.systemd_cgroup = context.globals.systemd_cgroup;
  Diagnostics wrong;
  auto container = oci::load_bundle(flags.bundle.empty() ? "." : flags.bundle, flags.config, load, wrong);
  if (!container) throw std::runtime_error(wrong.text());
  for (const std::string& warning : container->warnings) report_warning(context.globals, warning);
  if (!container->asked.policy.empty()) tighten(*container, container->asked.policy);
  if (!container->asked.events.empty()) check_receiver(container->asked.events);
  if (container->asked.init) run_under_init(container->plan);
  isolate::check_profile(container->plan.process.apparmor);
  if (std::string& path = container->plan.cgroup.path; !path.empty()) path.insert(0, context.cgroups().v2_base);
  return std::move(*container);
}

session::State new_state(const std::string& id, const oci::Container& container) {
  session::State state;
  state.id = id;
  state.oci_version = container.oci_version;
  state.bundle = container.bundle;
  state.rootfs = container.rootfs;
  state.config = container.config;
  state.annotations = container.annotations;
  state.created = session::rfc3339_now();
  state.owner = static_cast<int>(::getuid());
  state.cgroup = container.plan.cgroup.path;
  state.poststart = container.plan.hooks.poststart;
  state.poststop = container.plan.hooks.poststop;
  return state;
}

std::optional<systemd::Scope> begin_cgroup(Context& context, oci::Container& container, session::State& state) {
  std::optional<systemd::Scope> scope;
  if (container.scope) scope = started_scope(container, state);
  oci::show_hierarchies(container.plan, state.cgroup, context.cgroups());
  return scope;
}

session::Entry new_entry(Context& context, const std::string& id) {
  try {
    return session::Entry::create(context.directories(), id);
  } catch (const SystemError& error) {
    if (error.code() != EEXIST) throw;
    throw std::runtime_error("container with given ID already exists");  // as runc says it
  }
}

void write_process(Context& context, const session::Entry& entry, const isolate::Plan& plan) {
  isolate::init::SpawnRequest process{plan.process, {}};
  for (const isolate::SeccompRules& rules : plan.seccomp) process.filters.push_back(isolate::make_filter(rules, context.directories().filters()));
  entry.write_process(process);
}

namespace {

std::string described(const std::string& id, const isolate::Plan& plan) {
  std::string namespaces;
  for (const isolate::Namespace& n : plan.namespaces) namespaces += fmt::format(" {}{}{}", isolate::namespace_name(n.kind), n.join.empty() ? "" : "=", n.join);
  return fmt::format("container {}: root {}, cgroup {}, namespaces{}, {} mounts, {} devices, {} system call filters", id, plan.root.path, plan.cgroup.path, namespaces,
                     plan.mounts.size(), plan.devices.size(), plan.seccomp.size());
}

// The descriptors of LISTEN_FDS come first, then those of --preserve-fds: sd_listen_fds(3).
// One that closes on exec is our own and not the caller's.
int descriptors_to_keep(const Globals& globals, const CreateFlags& flags, isolate::Process& process) {
  const char* listen = std::getenv("LISTEN_FDS");
  int count = listen ? std::atoi(listen) : 0;
  if (count > 0) {
    process.env.push_back(fmt::format("LISTEN_FDS={}", count));
    process.env.push_back("LISTEN_PID=1");
  }
  for (int fd = 3; fd < 3 + count + flags.preserve_fds; ++fd)
    if (::fcntl(fd, F_GETFD) == -1) report_warning(globals, fmt::format("descriptor {} is not open, and the container does not get it (--preserve-fds, LISTEN_FDS)", fd));
  return count + flags.preserve_fds;
}

}  // namespace

void check_terminal(const isolate::Plan& plan, const CreateFlags& flags, bool leaves) {
  bool wants = plan.process.terminal.has_value();
  if (wants && leaves && flags.console_socket.empty())
    throw std::runtime_error("process.terminal is true and runner will not stay: give --console-socket, which takes the terminal");
  if (!flags.console_socket.empty() && !(wants && leaves))
    throw std::runtime_error(wants ? "--console-socket is for a detached container" : "--console-socket: process.terminal is not true");
}

Created create_container(Context& context, const std::string& id, const CreateFlags& flags, bool gate) {
  check_id(id);
  oci::Container container = load_container(context, id, flags);
  check_terminal(container.plan, flags, gate || flags.detach);
  if (!container.asked.restore.empty()) return restore_held(context, id, flags, std::move(container));
  int preserved = descriptors_to_keep(context.globals, flags, container.plan.process);
  session::State state = new_state(id, container);

  session::Entry entry = new_entry(context, id);
  try {
    entry.write_state(state);
    auto scope = begin_cgroup(context, container, state);
    offer_ready_socket(entry, container.plan, state);
    Fd listener;
    if (gate) listener = listen_at(entry.file("start.sock"));
    Fd step = isolate::open_sealed(helper_path("runner-exec"), container.plan.ids);
    isolate::StartOptions options;
    options.exec_program = step.get();
    options.cgroups = context.cgroups();
    options.filter_cache = context.directories().filters();
    options.preserve_fds = preserved;
    options.gate = listener.get();
    options.die_with_parent = false;  // a container outlives `runner run`, as it does runc's
    options.hook_state = [&](const char* status, pid_t pid) { return state_json(state, status, pid); };
    options.listener_state = [&](const isolate::Filter& filter, pid_t pid) { return listener_json(state, "creating", filter, pid); };
    options.on_born = [&](pid_t pid) {
      state.start_time = session::start_time_of(pid);
      write_process(context, entry, container.plan);
    };
    if (context.globals.debug) report_debug(context.globals, described(id, container.plan));
    isolate::Sandbox sandbox = isolate::start(container.plan, options);
    scope.reset();  // which has the container's process now
    for (const std::string& limit : sandbox.cgroup().missing()) report_warning(context.globals, fmt::format("the {} is not in force: this host cannot enforce it", limit));

    state.pid = sandbox.child().pid();
    report_debug(context.globals, fmt::format("process {} stands behind its walls and waits to execute {}", state.pid, container.plan.process.argv.at(0)));
    state.started = !gate;  // `run` goes on at once, and takes the entry away if that fails
    if (!flags.console_socket.empty()) send_console(flags.console_socket, sandbox.terminal().get());
    entry.write_state(state);
    if (!flags.pidfd_socket.empty()) send_pidfd(flags.pidfd_socket, sandbox.child());
    if (!flags.pid_file.empty()) replace_file(flags.pid_file, std::to_string(state.pid), 0644);
    return Created{std::move(entry), std::move(state), std::move(container), std::move(sandbox)};
  } catch (...) {
    entry.remove();
    throw;
  }
}

void run_poststart(const session::State& state) {
  try {
    isolate::run_hooks(state.poststart, "poststart", state_json(state, "running", state.pid));
  } catch (...) {
    if (Fd process = session::open_process(state)) signal_pidfd(process.get(), SIGKILL);
    throw;
  }
}

void remove_container(Context& context, session::Entry& entry, const session::State& state) {
  session::remove_remains(context.directories(), context.cgroups(), state, true);
  tell(entry, state, events::ContainerDeleted{});
  if (!state.scope.empty()) systemd::stop_scope(helper_path("runner-systemd"), state.scope);  // the next one may have its name
  entry.remove();
  for (const isolate::Hook& hook : state.poststop) {
    try {
      isolate::run_hooks({hook}, "poststop", state_json(state, "stopped", 0));
    } catch (const std::exception& error) {
      report_warning(context.globals, error.what());
    }
  }
}

void send_console(const std::string& socket, int master) {
  Fd connection = connect_to(socket, SOCK_STREAM);
  char name[64] = {};
  if (::ptsname_r(master, name, sizeof name) != 0) std::strcpy(name, "/dev/ptmx");
  send_message(connection.get(), name, {master});
}

void send_pidfd(const std::string& socket, const Child& child) { send_message(connect_to(socket, SOCK_STREAM).get(), "pidfd", {child.pidfd()}); }

int signal_number(const std::string& text) {
  if (!text.empty() && std::all_of(text.begin(), text.end(), [](char c) { return c >= '0' && c <= '9'; })) {
    int number = text.size() < 4 ? std::stoi(text) : 0;
    if (number >= 0 && number <= SIGRTMAX) return number;
  }
  std::string name = text;
  std::transform(name.begin(), name.end(), name.begin(), [](unsigned char c) { return std::toupper(c); });
  if (name.rfind("SIG", 0) == 0) name = name.substr(3);
  for (int number = 1; number < SIGRTMIN; ++number)
    if (const char* known = ::sigabbrev_np(number); known && name == known) return number;
  throw UsageError(fmt::format("unknown signal \"{}\"", text));
}

}  // namespace runner::cli
