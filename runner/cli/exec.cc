// A further process in a running container or session.
#include <fcntl.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <sstream>

#include "isolate/apparmor.h"
#include "isolate/environment.h"
#include "isolate/join.h"
#include "isolate/privileges.h"
#include "isolate/sealed.h"
#include "isolate/sys/error.h"
#include "isolate/sys/file.h"
#include "runner/cli/awake.h"
#include "runner/cli/container.h"
#include "runner/cli/detach_keys.h"
#include "runner/cli/run.h"
#include "runner/events/trace.h"
#include "runner/oci/process.h"
#include "runner/config/units.h"
#include "runner/supervise/client.h"
#include "runner/supervise/tty.h"

namespace runner::cli {

using namespace isolate::sys;

namespace {

struct ExecFlags {
  std::string console_socket, pidfd_socket, cwd, user, process, pid_file, label, apparmor;
  std::vector<std::string> env, capabilities, groups, cgroups;
  bool terminal = false, detach = false, no_new_privileges = false, ignore_paused = false;
  int preserve_fds = 0;
  // Of a session only:
  std::string timeout, memory, pids, service, restart;
  bool interactive = false, events = false, keep_awake = false;
  std::string scrollback, detach_keys;

  void declare(Options& o) {
    o.value("--console-socket", console_socket, "socket that gets the master of the terminal");
    o.value("--pidfd-socket", pidfd_socket, "socket that gets a descriptor of its process");
    o.value("--cwd,-w", cwd, "working directory");
    o.values("-e,--env", env, "NAME=value");
    o.flag("-t,--tty", terminal, "with a terminal");
    o.value("-u,--user", user, "UID[:GID]");
    o.values("-g,--additional-gids", groups, "further groups");
    o.value("-p,--process", process, "file with the process as JSON, complete");
    o.flag("-d,--detach", detach, "return once it runs");
    o.value("--pid-file", pid_file, "where to write its pid");
    o.value("--process-label", label, "not supported: an error");
    o.value("--apparmor", apparmor, "profile of AppArmor that it runs under");
    o.flag("--no-new-privs", no_new_privileges, "set no_new_privs");
    o.values("-c,--cap", capabilities, "further capabilities");
    o.number("--preserve-fds", preserve_fds, "how many descriptors from 3 on it inherits");
    o.values("--cgroup", cgroups, "a cgroup below the container's to run in: PATH, or on cgroup v1, several times, CONTROLLER[,CONTROLLER]:PATH");
    o.flag("--ignore-paused", ignore_paused, "also in a paused container");
    o.flag("-i,--interactive", interactive, "accepted as docker has it: standard input always goes in");
    o.value("--timeout", timeout, "session: how long it may take (30s, 5m); exit code 124");
    o.value("-m,--memory", memory, "session: memory that it may use (512M), within the session's");
    o.value("--pids-limit", pids, "session: how many processes it may have, within the session's");
    o.value("--service", service, "session, with -d: a name for it, by which attach finds it");
    o.value("--restart", restart, "session, with --service: no, on-failure or always");
    o.flag("--keep-awake", keep_awake, "session: it does not fall asleep (run --sleep-after) while this runs");
    o.value("--scrollback", scrollback, "session, with -t: how much of its output is kept for who attaches later, 64K to 64M; 1M by default");
    o.value("--detach-keys", detach_keys, "session, with -t: keys that leave it running, such as ctrl-p,ctrl-q; none by default");
    o.flag("--events", events, "session: print events instead of the command's own output");
  }
};

// Digits only, and all of them: "0x0", " 0", "1e3" and "4294967296" are no ids (CVE-2026-30892).
std::uint32_t parse_id(const std::string& text, const char* what) {
  std::uint32_t id = 0;
  auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), id);
  if (text.empty() || error != std::errc() || end != text.data() + text.size() || id == ~0u)
    throw UsageError(fmt::format("{} '{}' is not a number below 4294967295", what, text));
  return id;
}

isolate::Process process_of(Context& context, const ExecFlags& flags, const session::State& state, const isolate::Process& first,
                            const std::vector<std::string>& argv) {
  if (!flags.process.empty()) {
    Diagnostics wrong;
    std::vector<std::string> warnings;
    auto process = oci::load_process(flags.process, first.capabilities, warnings, wrong);
    if (!process) throw std::runtime_error(wrong.text());
    for (const std::string& warning : warnings) report_warning(context.globals, warning);
    if (flags.terminal && !process->terminal) process->terminal.emplace();
    process->personality = first.personality;
    process->keep_groups = first.keep_groups;
    if (process->apparmor.empty()) process->apparmor = first.apparmor;
    if (process->exec_cpus_initial.empty()) process->exec_cpus_initial = first.exec_cpus_initial;
    if (process->exec_cpus.empty()) process->exec_cpus = first.exec_cpus;
    // The file says who runs what; what a session may do was decided by its policy when it began.
    if (state.is_session) {
      process->capabilities = first.capabilities;
      process->no_new_privileges = true;
      process->rlimits = first.rlimits;
    }
    return *process;
  }
  isolate::Process process = first;
  process.argv = argv;
  if (!flags.cwd.empty()) process.cwd = flags.cwd;
  for (const std::string& entry : flags.env) isolate::set_variable(process.env, entry);
  if (!flags.user.empty()) {
    std::size_t colon = flags.user.find(':');
    process.uid = parse_id(flags.user.substr(0, colon), "user");
    if (colon != std::string::npos) process.gid = parse_id(flags.user.substr(colon + 1), "group");
  }
  for (const std::string& group : flags.groups) process.groups.push_back(parse_id(group, "group"));
  for (const std::string& name : flags.capabilities) {
    int number = isolate::capability_number(name);
    if (number < 0) {
      report_warning(context.globals, fmt::format("--cap: ignoring unknown capability {}", name));
      continue;
    }
    if (state.is_session) throw UsageError("--cap: a session's processes have no capabilities");
    std::uint64_t bit = std::uint64_t{1} << number;
    for (std::uint64_t* set : {&process.capabilities.bounding, &process.capabilities.effective, &process.capabilities.permitted}) *set |= bit;
    process.capabilities.ambient |= process.capabilities.inheritable & bit;  // which must be inheritable as well: capabilities(7)
  }
  if (flags.no_new_privileges) process.no_new_privileges = true;
  if (!flags.apparmor.empty()) process.apparmor = flags.apparmor;
  process.terminal.reset();
  if (flags.terminal) process.terminal.emplace();
  return process;
}

// A session's processes get pipes: no descriptor of the caller's crosses the wall.
struct Pipes {
  supervise::Ends ours;
  Fd theirs[3];

  Pipes() {
    Fd* mine[] = {&ours.in, &ours.out, &ours.err};
    for (int i = 0; i < 3; ++i) {
      auto [read, write] = make_pipe();
      *mine[i] = std::move(i == 0 ? write : read);
      theirs[i] = std::move(i == 0 ? read : write);
    }
  }
};

isolate::Cgroup group_below(const isolate::Cgroup& group, const std::string& asked) {
  std::size_t colon = asked.find(':');
  std::string path = colon == std::string::npos ? asked : asked.substr(colon + 1);
  std::vector<std::string> controllers;
  std::istringstream names(colon == std::string::npos ? "" : asked.substr(0, colon));
  for (std::string name; std::getline(names, name, ',');) controllers.push_back(name);
  if (path.empty() || path[0] != '/') path.insert(0, "/");
  if ((path + "/").find("/../") != std::string::npos) throw UsageError(fmt::format("exec: --cgroup: {} is not a sub cgroup path", path.substr(1)));
  while (path.ends_with('/')) path.pop_back();
  try {
    isolate::Cgroup below = group.below(path, controllers);
    if (below.takes_no_process())
      throw std::runtime_error(fmt::format("adding pid of a process to cgroups {}/cgroup.procs: device or resource busy (it gives controllers to groups below it: name one of those)", below.v2_path()));
    return below;
  } catch (const std::runtime_error& error) {
    throw std::runtime_error(fmt::format("exec: --cgroup: {}", error.what()));
  }
}

// Where the process begins: in the container's group, or in one below.
isolate::Cgroup group_of(Context& context, const std::vector<std::string>& asked, const session::State& state) {
  isolate::Cgroup group = isolate::Cgroup::open(state.cgroup, context.cgroups());
  if (state.cgroup.empty() && asked.empty()) return group;
  if (asked.empty()) {
    if (!group.takes_no_process()) return group;
    // Those inside have moved themselves to a leaf of it, and so does this one.
    std::string theirs = isolate::v2_group_of(state.pid);
    return theirs.starts_with(state.cgroup + "/") ? group.below(theirs.substr(state.cgroup.size()), {}) : std::move(group);
  }
  if (asked.size() > 1 && context.cgroups().v1.empty()) throw UsageError("exec: --cgroup: cgroup v2 has one hierarchy, and a process is in one group of it");
  for (const std::string& each : asked) group = group_below(group, each);
  return group;
}

// One of these needs the process as a child of ours, which joins the session from outside.
bool joins(const ExecFlags& flags) {
  return !flags.process.empty() || !flags.console_socket.empty() || !flags.pid_file.empty() || flags.preserve_fds > 0 || !flags.cgroups.empty() || !flags.pidfd_socket.empty();
}

std::uint64_t read_limit(const char* flag, const std::string& text, std::optional<std::uint64_t> (*parse)(std::string_view)) {
  if (text.empty()) return 0;
  std::optional<std::uint64_t> value = parse(text);
  if (!value || *value == 0) throw UsageError(fmt::format("exec: {} '{}' is not a limit", flag, text));
  return *value;
}

supervise::CallWish wish_of(const ExecFlags& flags, const std::vector<std::string>& argv) {
  if (!flags.capabilities.empty()) throw UsageError("--cap: a session's processes have no capabilities");
  supervise::CallWish wish;
  wish.argv = argv;
  wish.env = flags.env;
  wish.cwd = flags.cwd;
  wish.user = flags.user;
  for (const std::string& group : flags.groups) wish.groups.push_back(parse_id(group, "group"));
  wish.interactive = !flags.detach;
  wish.terminal = flags.terminal;
  wish.detached = flags.detach;
  winsize size;
  if (flags.terminal && ::ioctl(0, TIOCGWINSZ, &size) == 0) wish.rows = size.ws_row, wish.columns = size.ws_col;
  wish.wall_ms = read_limit("--timeout", flags.timeout, parse_duration);
  wish.memory = read_limit("--memory", flags.memory, parse_size);
  wish.pids = read_limit("--pids-limit", flags.pids, parse_whole);
  wish.service = flags.service;
  try {
    wish.scrollback = read_scrollback(flags.scrollback, flags.terminal);
  } catch (const UsageError& error) {
    throw UsageError(fmt::format("exec: --scrollback {}", error.what()));
  }
  if (!flags.detach_keys.empty() && (!flags.terminal || flags.detach)) throw UsageError("exec: --detach-keys are typed before a terminal: give -t, and not -d");
  wish.trace = events::caller_traceparent();
  constexpr std::pair<const char*, supervise::Restart> kPolicies[] = {
      {"", supervise::Restart::No}, {"no", supervise::Restart::No}, {"on-failure", supervise::Restart::OnFailure}, {"always", supervise::Restart::Always}};
  auto policy = std::find_if(std::begin(kPolicies), std::end(kPolicies), [&](const auto& p) { return flags.restart == p.first; });
  if (policy == std::end(kPolicies)) throw UsageError(fmt::format("exec: --restart {}: must be no, on-failure or always", flags.restart));
  wish.restart = policy->second;
  wish.keep_awake = flags.keep_awake;
  if (!flags.service.empty() && !flags.detach) throw UsageError("exec: --service is for a command that runs in the background: give -d");
  if (flags.service.empty() && !flags.restart.empty()) throw UsageError("exec: --restart is for a service: give --service NAME");
  if (!session::why_bad_id(flags.service).empty() && !flags.service.empty()) throw UsageError(fmt::format("exec: --service {}: {}", flags.service, session::why_bad_id(flags.service)));
  if (flags.service.rfind("code-", 0) == 0) throw UsageError(fmt::format("exec: --service {}: such names are of `runner code`", flags.service));
  return wish;
}

// A command in a session is a call of its supervisor: a child of PID 1 inside, whose streams live there.
int exec_in_session(const session::Entry& entry, const ExecFlags& flags, const std::vector<std::string>& argv) {
  supervise::CallWish wish = wish_of(flags, argv);
  Fd socket = supervise::connect_to_session(entry.file("control.sock"));
  supervise::Watching how;
  how.interactive = wish.interactive;
  how.detached = flags.detach;
  how.detach_keys = parse_detach_keys(flags.detach_keys);
  std::optional<events::Writer> writer;
  std::optional<events::StdioSplitter> streams[3];
  if (flags.events) {
    writer.emplace("runner/session/" + entry.id(), wish.trace);
    wish.trace = writer->traceparent();
    writer->add(std::make_unique<events::FdSink>(STDOUT_FILENO));
    streams[1].emplace(*writer, flags.terminal ? events::Stream::Terminal : events::Stream::Stdout);
    streams[2].emplace(*writer, events::Stream::Stderr);
    how.on_started = [&](int pid) { writer->write(events::ProcessStarted{pid, argv, std::nullopt}); };
    how.on_output = [&](std::uint8_t stream, std::uint64_t, std::string_view bytes) { streams[stream == 2 ? 2 : 1]->bytes(bytes); };
    how.on_exited = [&](const std::string& event) {
      for (auto& stream : streams)
        if (stream) stream->finish();
      writer->write(supervise::parse_exited(event));
    };
  }
  supervise::Watched end = supervise::run_call(socket, wish, how);
  if (end.taken) std::fputs("\r\nrunner: another client took over; it runs on\n", stderr);
  if (end.left) fmt::print(stderr, "\r\nrunner: detached; it runs on: runner attach {} c{}\n", entry.id(), end.call);
  return end.exit_code;
}

// `failed` is the exit status for what goes wrong before the command runs.
int run_exec(Context& context, int& failed) {
  ExecFlags flags;
  Options options("exec", "Run a further command: runner exec [flags] ID [--] COMMAND [ARG...]");
  flags.declare(options);
  std::vector<std::string> arguments = context.parse(options, true);
  if (arguments.empty()) throw UsageError("exec: ID is missing");
  session::Entry entry = context.entry(arguments[0]);
  std::vector<std::string> argv(arguments.begin() + 1, arguments.end());
  if (!argv.empty() && argv[0] == "--") argv.erase(argv.begin());
  if (argv.empty() && flags.process.empty()) throw UsageError("exec: a command, or --process FILE, is missing");
  if (!flags.label.empty()) throw UsageError("--process-label: this version of runner cannot do that");

  session::State state = entry.read_state();
  if (state.is_session) failed = 125;
  // A sleeping session looks like a paused one, but wakes.
  Fd awake = awaken(context, entry, state);
  session::Status status = session::status_of(state, context.cgroups());
  if (status == session::Status::Stopped || status == session::Status::Creating)
    throw std::runtime_error("cannot exec in a stopped container: container not running");
  if (status == session::Status::Paused && !flags.ignore_paused)
    throw std::runtime_error("cannot exec in a paused container (use --ignore-paused to override)");

  if (state.is_session && !joins(flags)) {
    try {
      return exec_in_session(entry, flags, argv);
    } catch (const isolate::SetupError& error) {
      report_error(context.globals, sentence(error.failure()));
      return exit_code_for(error.failure());
    }
  }

  isolate::init::SpawnRequest first = entry.read_process();
  isolate::Process process = process_of(context, flags, state, first.process, argv);
  isolate::check_profile(process.apparmor);
  if (process.terminal && flags.detach && flags.console_socket.empty())
    throw std::runtime_error("a detached process with a terminal needs --console-socket");

  winsize size;
  if (process.terminal && process.terminal->rows == 0 && ::ioctl(0, TIOCGWINSZ, &size) == 0)
    process.terminal = isolate::Terminal{size.ws_row, size.ws_col};

  Fd pidfd = session::open_process(state);
  if (!pidfd) throw std::runtime_error("container not running");
  isolate::Cgroup cgroup = group_of(context, flags.cgroups, state);
  Fd step = isolate::open_sealed(helper_path("runner-exec"), {});
  isolate::JoinOptions join;
  join.exec_program = step.get();
  join.pidfd = pidfd.get();
  join.pid = state.pid;
  join.cgroup = &cgroup;
  join.filters = first.filters;
  join.listener_state = [&](const isolate::Filter& filter, pid_t pid) { return listener_json(state, "running", filter, pid); };
  join.preserve_fds = flags.preserve_fds;
  join.lock_privileges = state.is_session;
  join.die_with_parent = state.is_session && !flags.detach;
  std::optional<Pipes> pipes;
  Fd nothing;
  if (state.is_session && !process.terminal && flags.detach) {
    nothing = open_file("/dev/null", O_RDWR);
    for (int& fd : join.stdio) fd = nothing.get();
  } else if (state.is_session && !process.terminal) {
    pipes.emplace();
    for (int i = 0; i < 3; ++i) join.stdio[i] = pipes->theirs[i].get();
  }
  if (!flags.detach) supervise::catch_signals();  // from here on they are for the command: relay() passes them on
  try {
    isolate::Joined joined = isolate::join(process, join);
    report_debug(context.globals, fmt::format("process {} has joined {} and runs {}", joined.child.pid(), state.id, process.argv.at(0)));
    if (!flags.pid_file.empty()) replace_file(flags.pid_file, std::to_string(joined.child.pid()), 0644);
    if (!flags.pidfd_socket.empty()) send_pidfd(flags.pidfd_socket, joined.child);
    if (!flags.console_socket.empty() && joined.terminal) send_console(flags.console_socket, joined.terminal.get());
    if (flags.detach) {
      joined.child.release();
      return 0;
    }
    if (joined.terminal && !state.is_session) supervise::leave_newlines(joined.terminal.get());
    if (pipes)
      for (Fd& end : pipes->theirs) end.close();
    Exit exit = supervise::relay(joined.child, pipes ? std::move(pipes->ours) : supervise::ends_of(std::move(joined.terminal)));
    return exit.signal ? 128 + exit.signal : exit.code;
  } catch (const isolate::SetupError& error) {
    report_error(context.globals, sentence(error.failure()));
    return state.is_session ? exit_code_for(error.failure()) : failed;
  }
}

}  // namespace

int exec_main(Context& context) {
  int failed = 255;  // runc's
  try {
    return run_exec(context, failed);
  } catch (const HelpAsked&) {
    throw;
  } catch (const UsageError&) {
    throw;
  } catch (const std::exception& error) {
    report_error(context.globals, error.what());
    return failed;
  }
}

}  // namespace runner::cli
