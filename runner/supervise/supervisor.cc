#include "runner/supervise/supervisor.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/inotify.h>
#include <sys/ioctl.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include <cstdio>

#include "isolate/sealed.h"
#include "isolate/sys/error.h"
#include "isolate/sys/file.h"
#include "isolate/sys/socket.h"
#include "runner/session/time.h"
#include "runner/supervise/beginning.h"
#include "runner/supervise/calls.h"
#include "runner/supervise/control.h"
#include "runner/supervise/parking.h"
#include "runner/supervise/ports.h"
#include "runner/supervise/sleep.h"
#include "runner/supervise/tty.h"

namespace runner::supervise {

using namespace isolate::sys;

namespace {

constexpr std::uint64_t kLastWords = 1000;  // milliseconds for the last output of a program that was killed
struct NotWanted {};

constexpr int kAskEvery = 200;  // milliseconds; see Cgroup::must_be_asked

// The caller of `run` in the foreground, where it gets the program's bytes as they are.
class Foreground : public Listener {
 public:
  Foreground(Output* out, Output* err) : out_(out), err_(err) {}
  bool full() const override { return (out_ && out_->full()) || (err_ && err_->full()); }
  void output(std::uint8_t stream, std::uint64_t, std::string_view bytes) override {
    if (Output* to = stream == 2 ? err_ : out_) to->write(bytes);
  }

 private:
  Output *out_, *err_;
};

class Supervisor {
 public:
  Supervisor(const Request& request, const session::Entry& entry, events::Writer& events)
      : request_(request), state_(request.state), entry_(entry), events_(events), signals_(catch_signals()), foreground_(request.raw, request.raw_errors),
        to_disk_(request.suspend) {}

  Verdict run() {
    if (!request_.wakes) events_.write(first_event(request_, entry_.id()));
    try {
      isolate::Sandbox sandbox = begin();
      sandbox_ = &sandbox;
      watch_limits(sandbox);
      if (!restored_) await_spawned();
      if (request_.sleep_ms)
        sleep_.emplace(open_group(), request_.sleep_ms, [this] { return server_->alone() && to_disk_.begin(); }, [this](bool asleep) { tell_sleep(asleep); });
      ports_.emplace(sandbox.cgroup(), sandbox.child().pid(), events_, [this](const std::string& group) { return calls_->name_in(group); });
      request_.on_started();
      if (restored_) calls_->place_members(record_), run_restore_hooks(sandbox.child().pid());
      loop(sandbox);
      return end(sandbox);
    } catch (const isolate::SetupError& error) {
      return tell_end(conclude_failed(error.failure(), milliseconds_since(began_)));
    } catch (const NotWanted&) {
      return tell_end(conclude_unused(milliseconds_since(began_)));
    } catch (const Refused& refused) {
      events_.write(events::RestoreRefused{refused.snapshot(), refused.what()});
      return tell_end(conclude_failed({isolate::Stage::Start, 0, {}, fmt::format("snapshot {} was refused: {}", refused.snapshot(), refused.what()), {}}, milliseconds_since(began_)));
    } catch (const std::exception& error) {
      return tell_end(conclude_failed(isolate::describe(isolate::Stage::Start, error), milliseconds_since(began_)));
    }
  }

 private:
  isolate::Sandbox begin() {
    std::string why;
    if (request_.restore) try {
        return restore_sandbox();
      } catch (const NotWanted&) {
        throw;
      } catch (const Refused& refused) {
        if (refused.damaged() || !request_.cold) throw;
        events_.write(events::RestoreRefused{refused.snapshot(), refused.what()});
        why = refused.what();
      } catch (const std::exception& error) {
        if (!request_.cold) throw;
        why = error.what();
      }
    isolate::Sandbox sandbox = start_sandbox();
    if (request_.cold) tell_cold(*request_.cold, why, sandbox.child().pid());
    return sandbox;
  }

  // Its files are there, its memory is not: nobody may take it for more.
  void tell_cold(events::SessionRestored event, const std::string& why, pid_t pid) {
    if (!why.empty()) {
      event.reason = why;
      notes_.push_back(fmt::format("begun anew on the files of snapshot {}, whose processes cannot go on here: {}", event.snapshot, why));
    }
    event.pid = pid;
    event.ms = milliseconds_since(began_);
    events_.write(event);
    request_.on_cold();
  }

  isolate::Sandbox start_sandbox() {
    auto [ours, theirs] = socket_pair();
    Fd init = request_.plan.privileged_start ? Fd() : isolate::open_sealed(request_.init_program, request_.plan.ids);
    isolate::StartOptions options;
    options.cgroups = request_.cgroups;
    options.filter_cache = request_.filter_cache;
    options.fill = request_.fill;
    options.init_program = init.get();
    options.init_control = theirs.get();
    std::vector<isolate::Filter> filters = make_filters();
    control_ = std::move(ours);
    options.on_born = [&](pid_t pid) {
      note_born(pid, filters);
      // Before PID 1 reads it: the message waits in the socket.
      CallRequest program{request_.plan.process, request_.interactive || request_.keeps_input, request_.raw == nullptr, 0, {}};
      calls_->begin_program(program, &foreground_);
      listen();
    };
    isolate::Sandbox sandbox = isolate::start(request_.plan, options);
    theirs.close();  // so that end-of-stream can only mean PID 1
    sandbox.execute();

    events::SandboxReady ready{sandbox.child().pid(), milliseconds_since(began_), {}, {}};
    tell_way("disk", sandbox.disk(), ready.disk);
    tell_way("workspace", sandbox.workspace(), ready.workspace);
    events_.write(ready);
    for (const std::string& limit : sandbox.cgroup().missing()) tell_missing(limit, "no cgroup controller that this user may set is there for it");
    if (const std::string& why = sandbox.disk().missing(); !why.empty()) tell_missing("disk limit", why);
    if (const std::string& why = sandbox.workspace().missing(); !why.empty()) tell_missing("workspace quota", why);
    return sandbox;
  }

  isolate::Sandbox restore_sandbox() {
    std::vector<isolate::Filter> filters = make_filters();
    Restored restored = request_.restore(request_.standby ? [this](Child& criu) { stand_by(criu); } : StandBy());
    control_ = std::move(restored.control);
    note_born(restored.sandbox.child().pid(), filters);
    record_ = std::move(restored.record);
    calls_->load(record_, &foreground_, request_.raw == nullptr);
    listen();
    calls_->wake(control_.get());
    program_began_ = Clock::now() - std::chrono::milliseconds(restored.ran_ms);
    copy_size();
    input_open_ = request_.interactive;
    events_.write(restored.event);
    for (const std::string& limit : restored.sandbox.cgroup().missing()) tell_missing(limit, "no cgroup controller that this user may set is there for it");
    restored_ = true;
    return std::move(restored.sandbox);
  }

  // Until somebody connects: listen() answers him, once there is who can.
  void stand_by(Child& criu) {
    state_.pid = criu.pid();
    state_.start_time = session::start_time_of(criu.pid());
    state_.standby = state_.remove = true;  // should we die now, nothing of it has run
    entry_.write_state(state_);
    listener_ = listen_at(entry_.file("control.sock"));
    request_.on_standby();
    for (;;) {
      pollfd wait[] = {{listener_.get(), POLLIN, 0}, {criu.pidfd(), POLLIN, 0}, {signals_.get(), POLLIN, 0}};
      if (::poll(wait, 3, -1) == -1 && errno != EINTR) fail(errno, "wait for somebody who wants the session");
      if (wait[2].revents) take_signals();
      if (wait[1].revents || ending_.forwarded_signal) throw NotWanted();
      if (wait[0].revents) break;
    }
    state_.standby = false;
    state_.remove = request_.state.remove;
  }

  void run_restore_hooks(pid_t pid) {
    if (::access(fmt::format("/proc/{}/root{}", pid, kRestoreHooks).c_str(), F_OK) != 0) return;
    try {
      calls_->begin(restore_hooks(request_.plan.process), nullptr);
    } catch (const std::exception& error) {
      notes_.push_back(fmt::format("the hooks in {} did not run: {}", kRestoreHooks, error.what()));
    }
  }

  std::vector<isolate::Filter> make_filters() const {
    std::vector<isolate::Filter> filters;
    for (const isolate::SeccompRules& rules : request_.plan.seccomp) filters.push_back(isolate::make_filter(rules, request_.filter_cache));
    return filters;
  }

  void note_born(pid_t pid, const std::vector<isolate::Filter>& filters) {
    state_.pid = pid;
    state_.start_time = session::start_time_of(pid);
    state_.started = true;
    entry_.write_process({request_.plan.process, filters});
    entry_.write_state(state_);
    calls_.emplace(Calls::Setting{control_.get(), filters, request_.cgroups, request_.plan.cgroup, init_uid(), request_.output_bytes,
                                  [this] {
                                    if (sleep_) sleep_->stir();
                                  }},
                   events_, notes_);
  }

  void listen() {
    Model model{request_.plan.process, events_.traceparent(), request_.fixed_env, request_.call_wall_ms, request_.call_memory, request_.call_pids};
    server_.emplace(listener_ ? std::move(listener_) : listen_at(entry_.file("control.sock")), *calls_, std::move(model), [this](int client, const isolate::init::Frame& frame) { hear_of_snapshot(client, frame); });
  }

  // A client takes a snapshot: from here until its answer all waits, as the session itself does.
  void hear_of_snapshot(int client, const isolate::init::Frame& frame) {
    if (frame.kind == isolate::init::Kind::Wake) {
      events_.write(parse_created(frame.bytes));
      return answer_parking(client);
    }
    events_.write(events::SnapshotStarted{frame.bytes});
    send_record(client, parked_record(*calls_, *sandbox_, control_.get(), request_, milliseconds_since(program_began_)));
    if (await_parking(client, sandbox_->child().pidfd()) == Parking::Suspended) {
      request_.on_suspended(frame.bytes);
      ending_.suspended = frame.bytes;
      over_ = true;
      return;
    }
    unpark();
    answer_parking(client);
  }

  void unpark() {
    open_group().freeze(false);
    control_ = take_descriptor(sandbox_->child().pidfd(), *calls_->parked());
    calls_->wake(control_.get());
  }

  void tell_missing(const std::string& limit, const std::string& reason) {
    events_.write(events::LimitMissing{limit, reason});
    notes_.push_back(fmt::format("the {} is not in force: see `runner check`", limit));
  }

  // In the event, and for `inspect`. That memory is used for files must not come as a surprise to who has set a memory limit.
  void tell_way(const char* what, const isolate::Disk& disk, std::optional<std::string>& told) {
    if (disk.way() == isolate::Disk::Way::None) return;
    told = name_of(disk.way());
    state_.kept_by[what] = *told;
    entry_.write_state(state_);
    if (disk.way() == isolate::Disk::Way::Memory)
      notes_.push_back(fmt::format("the {} limit is kept by a file system in memory: what is written counts against the memory limit, and goes with the session", what));
  }

  // The kernel counts no refused writes: what is left at the end tells.
  void check_disk(const std::optional<isolate::Disk::Usage>& usage, std::uint64_t limit) {
    if (!usage || usage->free > (usage->used + usage->free) / 64) return;
    ending_.disk_full = events::Evidence{usage->source + ", bytes used", usage->used};
    tell_limit(events::Limit::Disk, limit, *ending_.disk_full);
  }

  void watch_limits(isolate::Sandbox& sandbox) {
    // A user has 128 of them by default, for all programs: without one the counters are asked for.
    limits_ = Fd(::inotify_init1(IN_CLOEXEC | IN_NONBLOCK));
    asks_ = sandbox.cgroup().must_be_asked() || !limits_;
    for (const std::string& file : sandbox.cgroup().event_files())
      if (limits_ && ::inotify_add_watch(limits_.get(), file.c_str(), IN_MODIFY) == -1) asks_ = true;
    v1_oom_ = sandbox.cgroup().v1_oom_event();
  }

  isolate::Cgroup open_group() const { return isolate::Cgroup::open(request_.plan.cgroup.path, request_.cgroups); }

  void tell_sleep(bool asleep) {
    state_.asleep_since = asleep ? session::rfc3339_now() : "";
    entry_.write_state(state_);
  }

  void stay_in_memory() {
    auto why = to_disk_.check();
    if (!why) return;
    state_.stays_in_memory = *why;
    entry_.write_state(state_);
  }

  uid_t init_uid() const {
    const auto& uids = request_.plan.ids.uids;
    return uids.empty() ? ::geteuid() : uids.front().outside;
  }

  void await_spawned() {
    while (calls_->program_pid() == 0) {
      pollfd wait{control_.get(), POLLIN, 0};
      if (::poll(&wait, 1, -1) == -1 && errno != EINTR) fail(errno, "wait for the sandbox");
      bool alive = calls_->hear();
      if (calls_->program_failure()) throw isolate::SetupError(*calls_->program_failure());
      if (!alive && calls_->program_pid() == 0)
        throw isolate::SetupError({isolate::Stage::Start, 0, {}, "PID 1 of the sandbox ended before the program began", {}});
    }
    program_began_ = Clock::now();
    copy_size();
    input_open_ = request_.interactive;
  }

  void copy_size() {
    winsize size;
    if (request_.plan.process.terminal && ::ioctl(0, TIOCGWINSZ, &size) == 0) calls_->resize(0, size.ws_row, size.ws_col);
  }

  bool may_read() const {
    for (const Output* sink : request_.sinks)
      if (sink->full()) return false;
    return true;
  }

  int time_left() const {
    if (ending_.timed_out || ending_.fork_bomb) return milliseconds_left(killed_, kLastWords);
    return request_.wall_ms ? milliseconds_left(program_began_, request_.wall_ms) : -1;
  }

  int patience() const {
    int least = -1;
    bool asks = asks_ && !(sleep_ && sleep_->asleep());
    for (int each : {time_left(), calls_->time_left(), asks ? kAskEvery : -1, sleep_ ? sleep_->time_left() : -1, ports_->time_left()})
      if (each >= 0) least = least < 0 ? each : std::min(least, each);
    return least;
  }

  void loop(isolate::Sandbox& sandbox) {
    std::vector<pollfd> wait;
    while (!over_) {
      calls_->acknowledge(may_read());
      wait.assign({{control_.get(), POLLIN, 0},
                   {sandbox.child().pidfd(), POLLIN, 0},
                   {signals_.get(), POLLIN, 0},
                   {limits_.get(), POLLIN, 0},
                   {v1_oom_ ? v1_oom_.get() : -1, POLLIN, 0},
                   {input_open_ && !calls_->input_full(0) ? 0 : -1, POLLIN, 0},
                   {ports_->fd(), POLLIN, 0},
                   {to_disk_.fd(), POLLIN, 0}});
      std::vector<Output*> outs = outputs();
      for (Output* out : outs) wait.push_back({out->waiting() ? out->fd() : -1, POLLOUT, 0});
      std::size_t clients = wait.size();
      server_->wait_for(wait);
      if (::poll(wait.data(), wait.size(), patience()) == -1 && errno != EINTR) fail(errno, "wait for the sandbox");

      for (Output* out : outs) out->flush();
      if (wait[5].revents) read_input();
      bool overdue = asks_ && milliseconds_since(asked_) >= kAskEvery;
      if (wait[3].revents || wait[4].revents || overdue) check_limits(sandbox);
      if (wait[2].revents) take_signals();
      if (wait[0].revents) hear_init();
      if (wait[1].revents) over_ = true;
      server_->ready(wait.data() + clients);
      calls_->check_deadlines();
      ports_->check(wait[6].revents);
      if (wait[7].revents) stay_in_memory();
      if (sleep_) sleep_->check(server_->busy() || calls_->keep_awake());
      if (time_left() == 0 && !over_) end_program(ending_.fork_bomb ? ending_.fork_bomb : ending_.timed_out);
    }
  }

  // Killed first by itself, so that PID 1 still sends what it has written.
  void end_program(bool& why) {
    if (std::exchange(why, true)) {
      over_ = true;
      return;
    }
    killed_ = Clock::now();
    calls_->signal(0, SIGKILL);
  }

  std::vector<Output*> outputs() const {
    std::vector<Output*> all = request_.sinks;
    if (request_.raw) all.push_back(request_.raw);
    if (request_.raw_errors && request_.raw_errors != request_.raw) all.push_back(request_.raw_errors);
    return all;
  }

  void read_input() {
    char bytes[32768];
    ssize_t got = ::read(0, bytes, sizeof bytes);
    if (got > 0) return calls_->input(0, {bytes, static_cast<std::size_t>(got)});
    if (got == -1 && (errno == EAGAIN || errno == EINTR)) return;
    input_open_ = false;
    if (!request_.plan.process.terminal) calls_->end_input(0);  // a terminal stays: the program ends by itself
  }

  void take_signals() {
    signalfd_siginfo info;
    while (::read(signals_.get(), &info, sizeof info) == sizeof info) {
      int number = static_cast<int>(info.ssi_signo);
      if (number == SIGCHLD) continue;
      if (number == SIGWINCH) {
        copy_size();
        continue;
      }
      ending_.forwarded_signal = number;
      if (calls_) calls_->signal(0, number);
    }
  }

  void hear_init() {
    if (!calls_->hear()) over_ = true;
    if (calls_->parked()) unpark();  // whoever had asked for it has given up
    if (!calls_->program_exit()) return;
    ending_.exit = calls_->program_exit();
    over_ = true;
  }

  void check_limits(isolate::Sandbox& sandbox) {
    char events[4096];
    while (limits_ && ::read(limits_.get(), events, sizeof events) > 0) {
    }
    std::uint64_t count;
    if (v1_oom_ && ::read(v1_oom_.get(), &count, sizeof count) < 0 && errno != EAGAIN) v1_oom_.close();
    asked_ = Clock::now();
    tell_limits(sandbox.cgroup().counters());
    if (ending_.counters.forks_refused > kForkBombRefusals && !ending_.fork_bomb) end_program(ending_.fork_bomb);
  }

  void tell_limits(const isolate::CgroupCounters& now) {
    const isolate::Limits& l = request_.plan.cgroup.limits;
    if (now.oom_kills > ending_.counters.oom_kills)
      tell_limit(events::Limit::Memory, static_cast<std::uint64_t>(l.memory.value_or(0)), {now.oom_source, now.oom_kills});
    if (now.forks_refused > 0 && ending_.counters.forks_refused == 0)
      tell_limit(events::Limit::Pids, static_cast<std::uint64_t>(l.pids.value_or(0)), {now.pids_source, now.forks_refused});
    ending_.counters = now;
  }

  void tell_limit(events::Limit limit, std::uint64_t value, const events::Evidence& evidence) {
    events_.write(events::LimitReached{limit, value, evidence, std::nullopt});
    notes_.push_back(fmt::format("the {} limit of {} was reached ({}: {})", events::word(limit), value, evidence.source, evidence.counter));
  }

  Verdict end(isolate::Sandbox& sandbox) {
    sleep_.reset();  // SIGKILL ends a frozen process as well
    // The pid namespace ends with its first process: wait() returns when every process inside is gone.
    sandbox.child().signal(SIGKILL);
    ::unlink(entry_.file("control.sock").c_str());
    auto disk = sandbox.disk().usage(), workspace = sandbox.workspace().usage();  // before anybody removes the files
    request_.on_killed();
    sandbox.child().wait();
    // It may have told of the program's end, or sent its last output, just before.
    calls_->hear();
    if (!ending_.exit && !ending_.timed_out && !ending_.fork_bomb) ending_.exit = calls_->program_exit();
    calls_->finish_streams();
    if (calls_->program_signal()) ending_.forwarded_signal = calls_->program_signal();
    tell_limits(sandbox.cgroup().counters());
    check_disk(disk, sandbox.disk().bytes());
    check_disk(workspace, sandbox.workspace().bytes());
    sandbox.cgroup().remove();

    if (!ending_.suspended.empty()) {
      events_.write(events::SessionSuspended{ending_.suspended, milliseconds_since(began_)});
      Verdict verdict;
      verdict.suspended = ending_.suspended;
      verdict.exit_code = 0;
      return verdict;
    }
    if (ending_.timed_out) tell_limit(events::Limit::Wall, request_.wall_ms, {"monotonic clock, ms", milliseconds_since(program_began_)});
    events::ProcessExited exited = last_exit(ending_, calls_->program_pid());
    events_.write(exited);
    return tell_end(conclude(ending_, exited, milliseconds_since(began_)));
  }

  Verdict tell_end(Conclusion conclusion) {
    sleep_.reset();
    events_.write(conclusion.event);
    conclusion.verdict.notes = notes_;
    return conclusion.verdict;
  }

  const Request& request_;
  session::State state_;
  const session::Entry& entry_;
  events::Writer& events_;
  isolate::Sandbox* sandbox_ = nullptr;
  std::string record_;
  Fd signals_, control_, listener_, limits_, v1_oom_;
  Foreground foreground_;
  ToDisk to_disk_;
  std::vector<std::string> notes_;
  std::optional<Calls> calls_;
  std::optional<Control> server_;  // behind what it speaks to
  std::optional<Sleep> sleep_;
  std::optional<Ports> ports_;
  Ending ending_;
  Clock::time_point began_ = Clock::now(), program_began_ = began_, asked_ = began_, killed_;
  bool asks_ = false, over_ = false, input_open_ = false, restored_ = false;
};

}  // namespace

Verdict supervise(const Request& request, const session::Entry& entry, events::Writer& events) {
  return Supervisor(request, entry, events).run();
}

}  // namespace runner::supervise
