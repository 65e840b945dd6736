#include "runner/supervise/supervisor.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/inotify.h>
#include <sys/mman.h>
#include <sys/signalfd.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <chrono>
#include <cstdio>

#include "isolate/init/protocol.h"
#include "isolate/sealed.h"
#include "isolate/sys/error.h"
#include "isolate/sys/file.h"
#include "isolate/sys/socket.h"
#include "runner/supervise/tty.h"

namespace runner::supervise {

using namespace isolate::sys;
using Clock = std::chrono::steady_clock;

namespace {

struct Pipe {
  Fd read, write;
  static Pipe make() {
    int ends[2];
    check(::pipe2(ends, O_CLOEXEC), "make a pipe");
    return {Fd(ends[0]), Fd(ends[1])};
  }
};

std::uint64_t milliseconds_since(Clock::time_point start) {
  return static_cast<std::uint64_t>(std::chrono::duration_cast<std::chrono::milliseconds>(Clock::now() - start).count());
}

Fd memory_file(const std::string& bytes) {
  Fd memory(check(::memfd_create("spawn", MFD_CLOEXEC), "make a memory file"));
  write_all(memory.get(), bytes);
  return memory;
}

constexpr int kAskEvery = 200;  // milliseconds; see Cgroup::must_be_asked

// One stream of the program: where it is read, and where it goes.
struct Stream {
  Fd from;
  events::StdioSplitter splitter;
  Output* raw;
};

class Supervisor {
 public:
  Supervisor(const Request& request, const session::Entry& entry, events::Writer& events)
      : request_(request), entry_(entry), events_(events), signals_(catch_signals()) {}

  Verdict run() {
    announce();
    try {
      isolate::Sandbox sandbox = start_sandbox();
      watch_limits(sandbox);
      await_spawned();
      request_.on_started();
      loop(sandbox);
      return end(sandbox);
    } catch (const isolate::SetupError& error) {
      return fail_setup(error.failure());
    } catch (const std::exception& error) {
      return fail_setup(isolate::describe(isolate::Stage::Start, error));
    }
  }

 private:
  void announce() {
    utsname kernel;
    ::uname(&kernel);
    const isolate::Limits& l = request_.plan.cgroup.limits;
    std::map<std::string, std::string> limits;
    if (l.memory) limits["memory"] = std::to_string(*l.memory);
    if (l.pids) limits["pids"] = std::to_string(*l.pids);
    if (l.cpu_quota) limits["cpus"] = fmt::format("{}", static_cast<double>(*l.cpu_quota) / static_cast<double>(l.cpu_period.value_or(100000)));
    if (request_.wall_ms) limits["wall_ms"] = std::to_string(request_.wall_ms);
    if (request_.output_bytes) limits["output"] = std::to_string(request_.output_bytes);
    const isolate::Process& process = request_.plan.process;
    events_.write(events::SessionStarted{entry_.id(), request_.policy, process.argv, request_.state.rootfs,
                                         fmt::format("{}:{}", process.uid, process.gid), limits, RUNNER_VERSION, kernel.release});
  }

  isolate::Sandbox start_sandbox() {
    auto [ours, theirs] = socket_pair();
    Fd init = isolate::open_sealed(request_.init_program, request_.plan.ids);
    Fd nothing = open_file("/dev/null", O_RDWR);
    isolate::StartOptions options;
    options.cgroups = request_.cgroups;
    options.filter_cache = request_.filter_cache;
    options.init_program = init.get();
    options.init_control = theirs.get();
    for (int& fd : options.stdio) fd = nothing.get();
    for (const isolate::SeccompRules& rules : request_.plan.seccomp)
      filters_.push_back(isolate::make_filter(rules, request_.filter_cache));

    control_ = std::move(ours);
    options.on_born = [this](pid_t pid) {
      session::State state = request_.state;
      state.pid = pid;
      state.start_time = session::start_time_of(pid);
      state.started = true;
      entry_.write_process({request_.plan.process, filters_});
      entry_.write_state(state);
      ask_to_spawn();
    };
    isolate::Sandbox sandbox = isolate::start(request_.plan, options);
    theirs.close();  // so that end-of-stream can only mean PID 1
    sandbox.execute();

    events_.write(events::SandboxReady{sandbox.child().pid(), milliseconds_since(began_)});
    for (const std::string& limit : sandbox.cgroup().missing()) {
      events_.write(events::LimitMissing{limit, "no cgroup controller that this user may set is there for it"});
      notes_.push_back(fmt::format("the {} is not in force: see `runner check`", limit));
    }
    return sandbox;
  }

  void watch_limits(isolate::Sandbox& sandbox) {
    // A user has 128 of them by default, for all programs: without one the counters are asked for.
    limits_ = Fd(::inotify_init1(IN_CLOEXEC | IN_NONBLOCK));
    asks_ = sandbox.cgroup().must_be_asked() || !limits_;
    for (const std::string& file : sandbox.cgroup().event_files())
      if (limits_ && ::inotify_add_watch(limits_.get(), file.c_str(), IN_MODIFY) == -1) asks_ = true;
    v1_oom_ = sandbox.cgroup().v1_oom_event();
  }

  // Before PID 1 reads it: the message waits in the socket.
  void ask_to_spawn() {
    Pipe in = Pipe::make(), out = Pipe::make(), err = Pipe::make();
    Fd request = memory_file(isolate::init::encode({request_.plan.process, filters_}));
    send_message(control_.get(), "spawn", {request.get(), in.read.get(), out.write.get(), err.write.get()});
    in_ = std::move(in.write), out_ = std::move(out.read), err_ = std::move(err.read);
  }

  void await_spawned() {
    bool terminal = request_.plan.process.terminal.has_value();
    auto answer = receive_message(control_.get());
    if (!answer) throw isolate::SetupError({isolate::Stage::Exec, 0, {}, "PID 1 of the sandbox ended before the program began", {}});
    if (answer->bytes.rfind("failed ", 0) == 0) throw_failure(answer->bytes.substr(7));
    program_ = std::atoi(answer->bytes.c_str() + sizeof "started");
    events_.write(events::ProcessStarted{program_, request_.plan.process.argv});

    if (terminal) {
      Fd master = std::move(answer->fds.at(0));
      copy_window_size(0, master.get());
      add_stream(Fd(check(::fcntl(master.get(), F_DUPFD_CLOEXEC, 0), "keep the terminal")), events::Stream::Terminal, request_.raw);
      input_ = std::move(master);
    } else {
      add_stream(std::move(out_), events::Stream::Stdout, request_.raw);
      add_stream(std::move(err_), events::Stream::Stderr, request_.raw_errors);
      if (request_.interactive) input_ = std::move(in_);
    }
    in_.close();  // without -i the program's input ends here, as docker has it
    if (input_) to_input_.emplace(input_.get());
  }

  void add_stream(Fd from, events::Stream kind, Output* raw) {
    check(::fcntl(from.get(), F_SETFL, O_NONBLOCK), "read without blocking");
    streams_.push_back({std::move(from), events::StdioSplitter(events_, kind), raw});
  }

  // "STAGE ERRNO PATH\0TEXT"
  [[noreturn]] static void throw_failure(const std::string& text) {
    int stage = 0, code = 0, used = 0;
    std::sscanf(text.c_str(), "%d %d %n", &stage, &code, &used);
    std::string rest = text.substr(static_cast<std::size_t>(used));
    std::size_t zero = rest.find('\0');
    isolate::SetupFailure failure{static_cast<isolate::Stage>(stage), code, rest.substr(0, zero), rest.substr(zero + 1), {}};
    if (failure.stage == isolate::Stage::Exec && code == ENOENT) failure.hint = "the program, or the interpreter that it names, is not in the sandbox";
    throw isolate::SetupError(failure);
  }

  bool may_read() const {
    for (const Output* sink : request_.sinks)
      if (sink->full()) return false;
    return !(request_.raw && request_.raw->full()) && !(request_.raw_errors && request_.raw_errors->full());
  }

  int time_left() const {
    if (!request_.wall_ms) return -1;
    std::uint64_t used = milliseconds_since(program_began_);
    return used >= request_.wall_ms ? 0 : static_cast<int>(std::min<std::uint64_t>(request_.wall_ms - used, 3'600'000));
  }

  void loop(isolate::Sandbox& sandbox) {
    program_began_ = Clock::now();
    while (!over_) {
      std::vector<pollfd> wait{{control_.get(), POLLIN, 0},
                               {sandbox.child().pidfd(), POLLIN, 0},
                               {signals_.get(), POLLIN, 0},
                               {limits_.get(), POLLIN, 0},
                               {v1_oom_ ? v1_oom_.get() : -1, POLLIN, 0},
                               {reads_input() ? 0 : -1, POLLIN, 0},
                               {to_input_ && to_input_->waiting() ? to_input_->fd() : -1, POLLOUT, 0}};
      bool reading = may_read();
      for (Stream& stream : streams_) wait.push_back({reading && stream.from ? stream.from.get() : -1, POLLIN, 0});
      for (Output* out : outputs()) wait.push_back({out->waiting() ? out->fd() : -1, POLLOUT, 0});
      int patience = time_left();
      if (asks_) patience = patience < 0 ? kAskEvery : std::min(patience, kAskEvery);
      if (::poll(wait.data(), wait.size(), patience) == -1 && errno != EINTR) fail(errno, "wait for the sandbox");

      for (Output* out : outputs()) out->flush();
      for (std::size_t i = 0; i < streams_.size(); ++i)
        if (wait[7 + i].revents) read_stream(streams_[i]);
      if (wait[6].revents) to_input_->flush();
      if (wait[5].revents) read_input();
      bool overdue = asks_ && milliseconds_since(asked_) >= kAskEvery;
      if (wait[3].revents || wait[4].revents || overdue) check_limits(sandbox);
      if (wait[2].revents) take_signals();
      if (wait[0].revents) hear_init();
      if (wait[1].revents) over_ = true;
      if (request_.wall_ms && time_left() == 0 && !over_) ending_.timed_out = over_ = true;
    }
  }

  std::vector<Output*> outputs() const {
    std::vector<Output*> all = request_.sinks;
    if (request_.raw) all.push_back(request_.raw);
    if (request_.raw_errors && request_.raw_errors != request_.raw) all.push_back(request_.raw_errors);
    return all;
  }

  // False at the end of the stream, or when there is nothing to read just now.
  bool read_stream(Stream& stream) {
    static char bytes[1 << 16];
    ssize_t got = stream.from ? ::read(stream.from.get(), bytes, sizeof bytes) : 0;
    if (got == -1 && (errno == EAGAIN || errno == EINTR)) return false;
    if (got <= 0) {
      stream.from.close();
      return false;
    }
    std::uint64_t size = static_cast<std::uint64_t>(got), room = size;
    if (request_.output_bytes) room = std::min(size, request_.output_bytes - std::min(request_.output_bytes, output_));
    output_ += size;
    std::string_view kept(bytes, room);
    if (stream.raw) stream.raw->write(kept);
    else if (room) stream.splitter.bytes(kept);
    if (room < size) {
      stream.splitter.drop(size - room);
      if (!output_told_) tell_limit(events::Limit::Output, request_.output_bytes, {"bytes of output", output_});
      output_told_ = true;
    }
    return true;
  }

  bool reads_input() const { return to_input_ && (request_.interactive) && !input_ended_ && !to_input_->full(); }

  void read_input() {
    char bytes[32768];
    ssize_t got = ::read(0, bytes, sizeof bytes);
    if (got > 0) return to_input_->write({bytes, static_cast<std::size_t>(got)});
    if (got == -1 && (errno == EAGAIN || errno == EINTR)) return;
    input_ended_ = true;
    if (request_.plan.process.terminal) return;  // the terminal stays: the program ends by itself
    to_input_->drain();
    to_input_.reset();
    input_.close();
  }

  void take_signals() {
    signalfd_siginfo info;
    while (::read(signals_.get(), &info, sizeof info) == sizeof info) {
      int number = static_cast<int>(info.ssi_signo);
      if (number == SIGCHLD) continue;
      if (number == SIGWINCH) {
        if (request_.plan.process.terminal && input_) copy_window_size(0, input_.get());
        continue;
      }
      ending_.forwarded_signal = number;
      try {
        send_message(control_.get(), fmt::format("signal {}", number));
      } catch (const SystemError&) {
        over_ = true;  // PID 1 is gone, and with it all that could get a signal
      }
    }
  }

  void hear_init() {
    auto message = receive_message(control_.get());
    if (!message) {
      over_ = true;
      return;
    }
    Exit exit;
    if (std::sscanf(message->bytes.c_str(), "exited %d %d", &exit.code, &exit.signal) == 2) {
      ending_.exit = exit;
      over_ = true;
    }
  }

  void check_limits(isolate::Sandbox& sandbox) {
    char events[4096];
    while (limits_ && ::read(limits_.get(), events, sizeof events) > 0) {
    }
    std::uint64_t count;
    if (v1_oom_ && ::read(v1_oom_.get(), &count, sizeof count) < 0 && errno != EAGAIN) v1_oom_.close();
    asked_ = Clock::now();
    tell_limits(sandbox.cgroup().counters());
    if (ending_.counters.forks_refused > kForkBombRefusals) ending_.fork_bomb = over_ = true;
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
    events_.write(events::LimitReached{limit, value, evidence});
    notes_.push_back(fmt::format("the {} limit of {} was reached ({}: {})", events::word(limit), value, evidence.source, evidence.counter));
  }

  Verdict end(isolate::Sandbox& sandbox) {
    // The pid namespace ends with its first process: wait() returns when every process inside is gone.
    sandbox.child().signal(SIGKILL);
    request_.on_killed();
    sandbox.child().wait();
    // It may have told of the program's end just before.
    if (!ending_.exit && !ending_.timed_out && !ending_.fork_bomb)
      if (auto last = receive_last()) ending_.exit = last;
    for (Stream& stream : streams_) {
      while (read_stream(stream)) {
      }
      stream.splitter.finish();
    }
    tell_limits(sandbox.cgroup().counters());
    sandbox.cgroup().remove();

    if (ending_.timed_out) tell_limit(events::Limit::Wall, request_.wall_ms, {"monotonic clock, ms", milliseconds_since(program_began_)});
    events::ProcessExited exited{program_, std::nullopt, std::nullopt};
    if (ending_.exit && ending_.exit->signal) exited.signal = ending_.exit->signal;
    else if (ending_.exit) exited.exit = ending_.exit->code;
    else exited.signal = SIGKILL;
    events_.write(exited);

    Verdict verdict = judge(ending_);
    events::SessionEnded ended;
    ended.result = verdict.result;
    ended.exit = exited.exit;
    ended.signal = exited.signal;
    ended.reason = verdict.reason;
    ended.ms = milliseconds_since(began_);
    ended.cpu_us = ending_.counters.cpu_microseconds;
    ended.memory_peak = ending_.counters.memory_peak;
    ended.evidence = verdict.evidence;
    events_.write(ended);
    verdict.notes = notes_;
    verdict.summary = fmt::format("{:.1f} s, {:.1f} s of CPU, {} MiB at the most", static_cast<double>(ended.ms) / 1e3,
                                  static_cast<double>(ended.cpu_us) / 1e6, ended.memory_peak >> 20);
    return verdict;
  }

  std::optional<Exit> receive_last() {
    Exit exit;
    try {
      auto message = receive_message(control_.get(), true);
      if (message && std::sscanf(message->bytes.c_str(), "exited %d %d", &exit.code, &exit.signal) == 2) return exit;
    } catch (const SystemError&) {
      // nothing was said
    }
    return std::nullopt;
  }

  Verdict fail_setup(const isolate::SetupFailure& f) {
    Verdict verdict;
    bool program = f.stage == isolate::Stage::Exec || f.cause.rfind("exec: ", 0) == 0;
    verdict.exit_code = !program ? 125 : f.code == ENOENT ? 127 : 126;
    verdict.reason = f.cause + (f.hint.empty() ? "" : "; " + f.hint);
    events::SessionEnded ended;
    ended.result = events::Result::RunnerError;
    ended.reason = f.cause;
    ended.ms = milliseconds_since(began_);
    ended.failure = events::Failure{isolate::stage_name(f.stage), f.code, f.path, f.cause, f.hint};
    events_.write(ended);
    verdict.notes = notes_;
    return verdict;
  }

  const Request& request_;
  const session::Entry& entry_;
  events::Writer& events_;
  Fd signals_, control_, limits_, v1_oom_, in_, out_, err_, input_;
  std::optional<Output> to_input_;
  std::vector<isolate::Filter> filters_;
  std::vector<Stream> streams_;
  std::vector<std::string> notes_;
  Ending ending_;
  Clock::time_point began_ = Clock::now(), program_began_ = began_, asked_ = began_;
  std::uint64_t output_ = 0;
  int program_ = 0;  // its pid inside
  bool asks_ = false, over_ = false, input_ended_ = false, output_told_ = false;
};

}  // namespace

Verdict supervise(const Request& request, const session::Entry& entry, events::Writer& events) {
  return Supervisor(request, entry, events).run();
}

}  // namespace runner::supervise
