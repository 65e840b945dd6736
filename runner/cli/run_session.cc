// `runner run [flags] -- COMMAND`: one sandboxed command as a session.
#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include <climits>
#include <cstdio>

#include "isolate/environment.h"
#include "isolate/execute.h"
#include "isolate/sys/child.h"
#include "isolate/sys/error.h"
#include "isolate/sys/file.h"
#include "runner/cli/run.h"
#include "runner/cli/sessions.h"
#include "runner/code/record.h"
#include "runner/events/trace.h"
#include "runner/events/writer.h"
#include "runner/session/last_words.h"
#include "runner/session/time.h"
#include "runner/snapshot/workspace.h"
#include "runner/supervise/notify.h"
#include "runner/supervise/supervisor.h"
#include "runner/supervise/tty.h"

namespace runner::cli {

using namespace isolate::sys;

namespace {

constexpr int kRunnerFailed = 125;

std::string random_hex() {
  std::uint64_t number[2];
  check(::getrandom(number, sizeof number, 0), "make a random id");
  return fmt::format("{:016x}{:016x}", number[0], number[1]);
}

// Data of one session, removed again unless it was kept.
class SessionData {
 public:
  // Of a suspended session: all is there.
  explicit SessionData(std::string path) : path_(std::move(path)), kept_(true) { make_dirs(path_ + "/fs/work", 0700); }
  SessionData(std::string path, const std::string& run) : path_(std::move(path)) {
    remove_tree(path_);  // of a session of the same id that is gone: its entry would have been found
    ::rename(spare().c_str(), path_.c_str());
    for (const char* folder : {"/fs/upper", "/fs/work"}) make_dirs(path_ + folder, 0700);
    // Whose it is: see lost.cc. The spare one mostly has it already.
    if (find_link(link()) == run) return;
    ::unlink(link().c_str());
    check(::symlink(run.c_str(), link().c_str()), "make {}", link());
  }
  ~SessionData() {
    try {
      if (!kept_) remove_tree(path_);
    } catch (const std::exception& error) {
      fmt::print(stderr, "runner: {}\n", error.what());
    }
  }
  void keep() { kept_ = true; }
  // `reusable`: its folders have nothing that another session's must not have.
  void remove(bool reusable) {
    remove_layer();
    auto holds = [](const std::string& folder, std::vector<std::string> only) { return list_dir(folder) == only; };
    bool bare = reusable && holds(path_, {"fs", "run"}) && holds(path_ + "/fs", {"work"}) && list_dir(path_ + "/fs/work").empty();
    if (!bare || ::renameat2(AT_FDCWD, path_.c_str(), AT_FDCWD, spare().c_str(), RENAME_NOREPLACE) == -1) remove_tree(path_);
    kept_ = true;
  }
  // All that anybody inside could reach.
  void remove_layer() {
    for (const char* folder : {"/fs/upper", "/fs/work/work"}) remove_tree(path_ + folder);
  }
  const std::string& path() const { return path_; }

 private:
  // The empty folders of the last session that removed itself: a folder of ext4 costs 0.1 ms to make and remove, a rename nothing.
  std::string link() const { return path_ + "/run"; }
  std::string spare() const { return path_.substr(0, path_.rfind('/')) + "/.spare"; }

  std::string path_;
  bool kept_ = false;
};

// A workspace beside the layer, which a session that wakes has already. One with a quota is made with it.
void make_workspace(const isolate::Plan& plan, const std::string& folder) {
  for (const isolate::Mount& mount : plan.mounts) {
    auto* bind = std::get_if<isolate::Bind>(&mount.what);
    if (!bind || bind->from != folder || bind->quota || find_dir(folder)) continue;
    make_dirs(folder, 0755);
    check(::chmod(folder.c_str(), 0755), "set the mode of {}", folder);
    if (!plan.privileged_start) return;
    std::uint32_t uid = plan.ids.uids.front().outside + plan.process.uid, gid = plan.ids.gids.front().outside + plan.process.gid;
    check(::chown(folder.c_str(), uid, gid), "give {} its owner", folder);
  }
}

// What `ls` and `inspect` tell of it, as long as there is an entry.
void describe(const plan::SessionPlan& plan, session::State& state) {
  const isolate::Process& process = plan.sandbox.process;
  state.user = fmt::format("{}:{}", process.uid, process.gid);
  state.cwd = process.cwd;
  state.command = process.argv;
  for (const std::string& variable : process.env) state.env_names.push_back(variable.substr(0, variable.find('=')));
  const isolate::Limits& limits = plan.sandbox.cgroup.limits;
  auto note = [&](const char* name, std::int64_t value) {
    if (value > 0) state.limits[name] = static_cast<std::uint64_t>(value);
  };
  note("memory", limits.memory.value_or(0));
  note("pids", limits.pids.value_or(0));
  note("millicpus", limits.cpu_quota.value_or(0) * 1000 / static_cast<std::int64_t>(limits.cpu_period.value_or(100000)));
  note("wall_ms", static_cast<std::int64_t>(plan.wall_ms));
  note("output", static_cast<std::int64_t>(plan.output_bytes));
  if (const auto& disk = plan.sandbox.root.overlay->disk) state.limits["disk"] = disk->bytes;
  for (const isolate::Mount& mount : plan.sandbox.mounts)
    if (auto* bind = std::get_if<isolate::Bind>(&mount.what); bind && bind->quota) state.limits["workspace"] = bind->quota->limit.bytes;
}

session::State new_state(const std::string& id, const plan::SessionPlan& plan, const std::string& rootfs, const SessionFlags& flags,
                         const plan::Config& config) {
  session::State state;
  state.id = id;
  state.is_session = true;
  state.oci_version = "1.2.0";
  state.bundle = "";
  state.rootfs = rootfs;
  state.annotations = config.labels;
  state.created = session::rfc3339_now();
  state.owner = static_cast<int>(::getuid());
  state.cgroup = plan.sandbox.cgroup.path;
  state.remove = flags.rm;
  state.policy = plan.policy;
  state.sleep_ms = plan.sleep_ms;
  state.volumes = plan.volumes;
  describe(plan, state);
  return state;
}

// The parent of a daemon waits for one byte: its child's program runs, or has failed to.
struct Daemon {
  Fd told;
  static Daemon leave(int& exit_code) {
    auto [read, write] = make_pipe();
    Child child = clone_process(0);
    if (child.pid() != 0) {
      write.close();
      char status = kRunnerFailed;
      if (::read(read.get(), &status, 1) != 1) status = kRunnerFailed;
      child.release();
      exit_code = static_cast<unsigned char>(status);
      return {};
    }
    ::setsid();
    exit_code = -1;
    return {std::move(write)};
  }
  void tell(int status) {
    char byte = static_cast<char>(status);
    if (told) (void)!::write(told.get(), &byte, 1);
    told.close();
  }
};

void to_nothing(int fd) {
  Fd nothing = open_file("/dev/null", O_RDWR);
  check(::dup2(nothing.get(), fd), "let go of descriptor {}", fd);
}

void let_signals_end_us() {
  sigset_t ending;
  ::sigemptyset(&ending);
  for (int number : {SIGTERM, SIGINT, SIGHUP, SIGQUIT}) ::sigaddset(&ending, number);
  ::sigprocmask(SIG_UNBLOCK, &ending, nullptr);
}

// What a person should know, in a few lines. Where the program's own output is all that is wanted, only what went wrong.
void tell_person(const std::string& id, const supervise::Verdict& verdict, bool raw) {
  std::string text;
  for (const std::string& note : verdict.notes) text += fmt::format("runner: {}\n", note);
  if (!verdict.suspended.empty()) {
    fmt::print(stderr, "runner: session {}: suspended; `runner wake {}` goes on with it\n", id, id);
    return;
  }
  bool plain = verdict.result == events::Result::Success || verdict.result == events::Result::ExitCode;
  if (!raw || !plain)
    text += fmt::format("runner: session {}: {}: {}{}{}\n", id, events::word(verdict.result), verdict.reason,
                        verdict.summary.empty() ? "" : " after ", verdict.summary);
  std::fputs(text.c_str(), stderr);  // fmt::print would throw where stderr is full or gone
}

}  // namespace

std::string random_id(const std::string& prefix) {
  unsigned number;
  check(::getrandom(&number, sizeof number, 0), "make a random id");
  return fmt::format("{}-{:08x}", prefix, number);
}

int run_session(Context& context, const std::vector<std::string>& command) try {
  SessionFlags flags;
  std::vector<std::string> arguments = context.arguments;
  arguments.push_back("--");
  arguments.insert(arguments.end(), command.begin(), command.end());
  Options options("run", "Run a command as a session: runner run [flags] -- COMMAND [ARG...]");
  flags.declare(options);
  if (auto rest = context.parse(options); !rest.empty())
    throw UsageError(fmt::format("run: '{}' stands before --; the command goes behind it", rest[0]));
  return live(context, flags, command, arguments, nullptr);
} catch (const HelpAsked&) {
  throw;
} catch (const std::exception& error) {
  report_error(context.globals, error.what());
  return kRunnerFailed;
}

int live(Context& context, const SessionFlags& flags, const std::vector<std::string>& command, const std::vector<std::string>& arguments,
         Origin* origin) {
  Diagnostics wrong;
  plan::Config config = flags.to_config(command, wrong);
  config.id = flags.name.empty() ? random_id("s") : flags.name;
  if (std::string why = session::why_bad_id(config.id); !why.empty()) wrong.add({"--name"}, "'{}': {}", shown(config.id), why);
  if (flags.terminal && flags.interactive && !flags.detach && !::isatty(0)) wrong.add({"-t"}, "the input device is not a TTY");
  if (!wrong.empty()) throw UsageError(wrong.text());
  if (winsize size; flags.terminal && ::ioctl(0, TIOCGWINSZ, &size) == 0) config.rows = size.ws_row, config.columns = size.ws_col;
  std::string id = config.id;

  std::optional<session::IdRangeLease> range;
  // The files of a session that wakes belong to the ids that it had.
  if (origin && origin->wakes) range = session::IdRangeLease::take_at(context.directories(), origin->snapshot->manifest().first_id);
  else if (::geteuid() == 0) range = session::IdRangeLease::take(context.directories());
  if (origin && !range) throw std::runtime_error(fmt::format("session {} cannot wake now: another session runs under the ids that its files have; wake it when that has ended", id));
  std::string rootfs, data_path = context.directories().session_data(id);
  std::string workspace = data_path + "/workspace/files";
  if (origin) config.own_workspace = origin->wakes ? find_dir(workspace).has_value() : !origin->other_workspace && snapshot::has_own_workspace(*origin->snapshot);
  std::vector<session::VolumeLease> volumes;
  plan::SessionPlan plan = decide(flags, config, context.directories(), range ? range->first() : 0, rootfs, &volumes);
  plan.sandbox.cgroup.path.insert(0, context.cgroups().v2_base);
  std::string bad_layer;
  if (origin) try {
      snapshot::put_layers(plan.sandbox, *origin->snapshot, origin->wakes != nullptr);
    } catch (const snapshot::BadSnapshot& bad) {
      bad_layer = fmt::format("{}: {}", bad.file(), bad.why());  // said where all refusals are
    }

  // What must differ between sessions that go on from one state: see policies/reseed.
  plan.sandbox.files.push_back({"/run/runner/epoch", random_hex() + "\n", "", 0444});
  plan.sandbox.files.push_back({"/etc/machine-id", random_hex() + "\n", "", 0444});
  isolate::set_variable(plan.sandbox.process.env, "RUNNER_EPOCH_FILE=/run/runner/epoch");

  if (plan.sleep_ms && (!context.cgroups().writable || context.cgroups().v2.empty()))
    throw std::runtime_error("--sleep-after: a session is frozen by a cgroup of version 2, and this user can make none on this host");

  session::Entry entry = origin && origin->wakes ? std::move(*origin->wakes) : session::Entry::create(context.directories(), id);
  // From here on something of ours is on the disk: a failure removes it, and a death leaves it to the next start's sweep.
  struct Forget {
    session::Entry& entry;
    bool kept = false;
    ~Forget() {
      if (!kept) entry.remove();
    }
  } forget{entry, origin && origin->wakes};
  SessionData data = origin && origin->wakes ? SessionData(data_path) : SessionData(data_path, context.directories().run);
  if (origin && !origin->wakes) replace_file(data_path + "/from", origin->snapshot->name() + "\n", 0600);
  make_workspace(plan.sandbox, workspace);
  if (!flags.cidfile.empty()) replace_file(flags.cidfile, id, 0644);

  Daemon daemon;
  if (flags.detach) {
    int status = 0;
    daemon = Daemon::leave(status);
    if (status >= 0) {  // the parent: the daemon owns everything now
      forget.kept = true;
      data.keep();
      if (status == 0 && flags.output == "raw") fmt::print("{}\n", id);
      return status;
    }
  }

  bool raw = flags.output == "raw" || (flags.terminal && flags.output != "events");
  supervise::Output out(STDOUT_FILENO), err(STDERR_FILENO);
  std::optional<supervise::Output> more;
  std::string source = "runner/session/" + id, parent = events::caller_traceparent();
  // The log of a session that removes itself while its caller looks on would be read by nobody: writing and removing it costs 1.5 ms.
  bool keeps_log = !flags.rm || flags.detach;
  events::LogLimits log_limits{plan.log.file_bytes, plan.log.files};
  std::string log = data.path() + "/events.ndjson";
  bool goes_on = origin && origin->wakes && ::access(log.c_str(), F_OK) == 0;
  events::Writer events = goes_on     ? events::Writer::resume(log, source, parent, events::real_sources(), log_limits)
                          : keeps_log ? events::Writer::create(log, source, parent, events::real_sources(), log_limits)
                                      : events::Writer(source, parent);
  supervise::Request request;
  request.state = new_state(id, plan, rootfs, flags, config);
  request.plan = std::move(plan.sandbox);
  isolate::set_variable(request.plan.process.env, "TRACEPARENT=" + events.traceparent());
  request.cgroups = context.cgroups();
  request.policy = plan.policy;
  request.fixed_env = plan.fixed_env;
  request.call_wall_ms = plan.call.wall_ms;
  request.call_memory = plan.call.memory;
  request.call_pids = plan.call.pids;
  request.init_program = helper_path("runner-init");
  request.filter_cache = context.directories().filters();
  request.wall_ms = plan.wall_ms;
  request.output_bytes = plan.output_bytes;
  request.sleep_ms = plan.sleep_ms;
  request.workspace = plan.workspace;
  request.kept = word(plan.kept);
  // Who waits for its end in the foreground would see one.
  if (flags.detach && flags.sleep_to == "disk" && ::geteuid() == 0)
    request.suspend = [&](int err) { return start_self(context, {"suspend", id}, err, err); };
  request.interactive = flags.interactive && !flags.detach;
  request.keeps_input = flags.interactive;
  if (!raw) {
    events.add(std::make_unique<supervise::OutputSink>(out));
    request.sinks.push_back(&out);
  } else if (!flags.detach) {
    request.raw = &out;
    request.raw_errors = &err;
  }
  if (flags.events_fd >= 0) {
    more.emplace(flags.events_fd);
    events.add(std::make_unique<supervise::OutputSink>(*more));
    request.sinks.push_back(&*more);
  }
  request.arguments = arguments;
  std::string suspended = origin && origin->wakes ? origin->snapshot->name() : "";  // the snapshot that it is in; empty while it is not on disk
  std::string used_up;  // a snapshot that was this suspension's, and nothing else
  // What is left of it is not lost: the processes' memory stays in the snapshot, until somebody removes that.
  auto leave_snapshot = [&] {
    session::remove_suspended(context.directories(), id);
    suspended.clear();
    origin->snapshot.reset();
  };
  if (origin && (origin->cold || plan.cold_when_unfit)) {
    request.cold.emplace();
    request.cold->kind = origin->cold ? "cold" : "degraded";
    request.cold->snapshot = origin->snapshot->name();
    request.cold->lineage = origin->snapshot->manifest().lineage;
    request.cold->lineage.insert(request.cold->lineage.begin(), origin->snapshot->manifest().id);
    request.on_cold = leave_snapshot;
    if (!origin->wakes && !origin->other_workspace) request.fill = [&](const isolate::Disk& disk) { snapshot::fill_workspace(*origin->snapshot, request.plan, disk); };
  }
  if (origin && origin->cold && !bad_layer.empty()) throw std::runtime_error(bad_layer);
  if (origin && !origin->cold)
    request.restore = [&](const supervise::StandBy& stand_by) {
      if (!bad_layer.empty()) throw supervise::Refused(origin->snapshot->name(), bad_layer, true);
      snapshot::RestoreSetting setting{request.plan, request.cgroups, origin->criu, origin->snapshot->manifest().session_id == id ? "warm" : "fork", origin->wakes || origin->other_workspace, origin->verify, stand_by};
      for (const auto& [name, language] : snapshot::contexts_of(*origin->snapshot)) code::Record(entry.path(), name).set_language(language);
      supervise::Restored restored = snapshot::restore(context.directories(), *origin->snapshot, setting);
      used_up = origin->wakes && origin->snapshot->manifest().automatic ? origin->snapshot->name() : "";
      leave_snapshot();
      return restored;
    };
  if (origin) {
    std::string from = find_file(data.path() + "/from").value_or("");
    request.from = from.substr(0, from.find('\n'));
  }
  request.wakes = origin && origin->wakes;
  request.on_suspended = [&](const std::string& snapshot) { session::write_suspended(context.directories(), id, suspended = snapshot); };
  auto let_caller_go = [&] {
    if (!daemon.told) return;
    out.drain();
    for (supervise::Output* stream : {&out, &err}) stream->let_go();  // who reads our stdout to its end must not wait for the daemon
    for (int fd = 0; fd < 3; ++fd) to_nothing(fd);
    daemon.tell(0);
  };
  request.standby = origin && origin->standby;
  request.on_standby = let_caller_go;
  request.on_started = [&] {
    let_caller_go();
    supervise::notify_manager(fmt::format("READY=1\nMAINPID={}\nSTATUS=session {} runs", ::getpid(), id));
    try {
      if (!used_up.empty()) snapshot::Store(context.directories()).remove(used_up);
      session::sweep(context.directories(), context.cgroups());
    } catch (const std::exception& error) {
      if (!flags.detach) report_warning(context.globals, error.what());  // what another session left is no reason to end this one
    }
  };

  request.on_killed = [&] {
    supervise::notify_manager("STOPPING=1");
    if (!flags.rm || !suspended.empty()) return;
    // Half a millisecond of an ext4's work beside the kernel's own. A dying process may still write: what it does goes at the end.
    try {
      data.remove_layer();
      remove_tree(context.directories().generated(id));
    } catch (const SystemError&) {
    }
  };

  std::optional<supervise::RawMode> raw_mode;
  if (flags.terminal && flags.interactive && !flags.detach) raw_mode.emplace(0);
  supervise::Verdict verdict = supervise::supervise(request, entry, events);
  raw_mode.reset();

  session::State state = request.state;
  state.ended = state.started = true;
  state.suspended = suspended;
  state.result = state.suspended.empty() ? events::word(verdict.result) : "suspended";
  state.exit_code = verdict.exit_code;
  state.finished = session::rfc3339_now();
  session::leave_last_words(entry, state);
  bool removed = (flags.rm || (origin && verdict.never_began)) && state.suspended.empty();  // it goes on, or there is none
  if (!removed) {
    forget.kept = true;
    data.keep();
    // Who reads that it has ended may remove it, and use its name again: nothing of ours may touch those folders from then on.
    for (const std::string& path : {data.path() + "/fs/work", context.directories().generated(id)}) remove_tree(path);
    entry.write_state(state);
  } else {
    data.remove(!request.plan.root.overlay->disk);  // a quota stays with its folders
    entry.remove();
    forget.kept = true;
  }
  entry.unlock();
  volumes.clear();
  // The session is over and nothing of it is left but its last words. Whoever reads them may take his time, or never come back:
  // a signal ends the wait.
  let_signals_end_us();
  out.drain();
  err.drain();
  if (more) more->drain();
  // Who waits for a start that has failed hears why; with events they have said so.
  if (!flags.detach || (raw && daemon.told)) tell_person(id, verdict, raw);
  daemon.tell(verdict.exit_code);
  return verdict.exit_code;
}

}  // namespace runner::cli
