#include "runner/supervise/calls.h"

#include <fcntl.h>
#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>

#include "isolate/sys/error.h"
#include "isolate/sys/file.h"
#include "isolate/sys/socket.h"

namespace runner::supervise {

using namespace isolate::sys;
using isolate::init::Frame;
using isolate::init::Kind;

std::uint64_t milliseconds_since(Clock::time_point start) {
  return static_cast<std::uint64_t>(std::chrono::duration_cast<std::chrono::milliseconds>(Clock::now() - start).count());
}

int milliseconds_left(Clock::time_point start, std::uint64_t limit) {
  std::uint64_t used = milliseconds_since(start);
  return used >= limit ? 0 : static_cast<int>(std::min<std::uint64_t>(limit - used, 3'600'000));
}

namespace {

constexpr std::uint64_t kInputWindow = 128 << 10;  // bytes on their way into a call

isolate::SetupFailure with_hint(isolate::SetupFailure failure) {
  if (failure.stage == isolate::Stage::Exec && failure.code == ENOENT) failure.hint = "the program, or the interpreter that it names, is not in the sandbox";
  return failure;
}

}  // namespace

Calls::Call* Calls::find(std::uint32_t number) {
  auto at = calls_.find(number);
  return at == calls_.end() ? nullptr : &at->second;
}

void Calls::send(Kind kind, std::uint32_t call, std::uint64_t offset, std::string_view bytes, std::uint8_t stream) {
  setting_.stir();
  try {
    isolate::init::send_frame(setting_.control, {kind, stream, call, offset, {}, {}}, bytes);
  } catch (const SystemError& error) {
    if (error.code() != EPIPE && error.code() != ECONNRESET) throw;  // PID 1 is gone: hear() will say so
  }
}

void Calls::add_streams(Call& call) {
  bool terminal = call.request.process.terminal.has_value();
  auto add = [&](std::uint8_t stream, events::Stream kind) {
    Stream& made = call.streams[stream];
    if (call.request.logged) made.log.emplace(events_, kind, call.name);
  };
  add(1, terminal ? events::Stream::Terminal : events::Stream::Stdout);
  if (!terminal) add(2, events::Stream::Stderr);
  if (call.request.channel) call.streams[isolate::init::kChannelStream];  // for who listens; no output, so not logged as such
}

void Calls::ask(std::uint32_t number, Call& call, std::uint8_t flags) {
  add_streams(call);
  Fd request = memory_file("spawn", isolate::init::encode({call.request.process, setting_.filters}));
  if (call.request.keeps_input) flags |= isolate::init::kKeepInput;
  if (call.request.channel) flags |= isolate::init::kChannel;
  std::vector<int> fds{request.get()};
  if (call.cgroup.v2_fd() >= 0) fds.push_back(call.cgroup.v2_fd()), flags |= isolate::init::kInGroup;
  std::vector<Fd> doors = call.cgroup.v1_doors();
  for (const Fd& door : doors) fds.push_back(door.get());
  setting_.stir();
  std::uint64_t scrollback = call.request.process.terminal ? call.request.process.terminal->scrollback : 0;
  isolate::init::send_frame(setting_.control, {Kind::Spawn, flags, number, scrollback, {}, {}}, {}, fds);
}

void Calls::begin_program(const CallRequest& request, Listener* listener) {
  Call& call = calls_[0];
  call.request = request;
  call.owner = listener;
  ask(0, call, isolate::init::kLast);
}

isolate::Cgroup Calls::make_group(std::uint32_t number, const CallRequest& request) {
  isolate::CgroupPlan plan;
  plan.path = fmt::format("{}/c{}", setting_.cgroup.path, number);
  plan.limits = request.limits;
  isolate::Cgroup session = isolate::Cgroup::open(setting_.cgroup.path, setting_.cgroups), made;
  if (request.limits != isolate::Limits{}) session.make_room(setting_.cgroups);
  if (setting_.cgroups.writable) made = isolate::Cgroup::create(plan, setting_.cgroups);
  if (!std::exchange(open_to_init_, true)) session.let_enter(setting_.init_uid);
  made.let_enter(setting_.init_uid);
  return made;
}

std::uint32_t Calls::begin(const CallRequest& request, Listener* listener) {
  std::uint32_t number = next_call_++;
  Call call;
  call.request = request;
  call.name = request.service.empty() ? fmt::format("c{}", number) : request.service;
  if (named(call.name) || waiting_.count(call.name)) isolate::sys::fail(EEXIST, "start service {} (it runs already)", call.name);
  call.owner = listener;
  call.before = isolate::Cgroup::open(setting_.cgroup.path, setting_.cgroups).counters();
  call.cgroup = make_group(number, request);
  ask(number, calls_[number] = std::move(call), 0);
  return number;
}

void Calls::drop(Listener* listener) {
  for (auto& [number, call] : calls_) {
    if (call.owner == listener) call.owner = nullptr;
    std::erase_if(call.viewers, [&](const auto& entry) { return entry.second.listener == listener; });
  }
}

void Calls::input(std::uint32_t number, std::string_view bytes) {
  Call* call = find(number);
  for (; call && !bytes.empty(); bytes.remove_prefix(std::min(bytes.size(), isolate::init::kLargestPiece))) {
    std::string_view piece = bytes.substr(0, isolate::init::kLargestPiece);
    send(Kind::Input, number, call->input_sent, piece);
    call->input_sent += piece.size();
  }
}

void Calls::end_input(std::uint32_t number) {
  if (find(number)) send(Kind::EndInput, number);
}

void Calls::resize(std::uint32_t number, unsigned short rows, unsigned short columns) {
  if (find(number)) send(Kind::Resize, number, static_cast<std::uint64_t>(rows) << 16 | columns);
}

void Calls::signal(std::uint32_t number, int signal) {
  if (find(number)) send(Kind::Signal, number, static_cast<std::uint64_t>(signal));
}

void Calls::cancel(std::uint32_t number) {
  Call* call = find(number);
  if (!call) return;
  call->cancelled = true;
  if (number != 0) call->cgroup.kill();
  signal(number, SIGKILL);
}

std::uint64_t Calls::input_sent(std::uint32_t number) const {
  auto at = calls_.find(number);
  return at == calls_.end() ? 0 : at->second.input_sent;
}

bool Calls::input_full(std::uint32_t number) const {
  auto at = calls_.find(number);
  return at != calls_.end() && at->second.input_sent - at->second.input_taken >= kInputWindow;
}

bool Calls::keep_awake() const {
  auto exempt = [](const auto& each) { return each.second.request.keeps_awake; };
  return std::any_of(calls_.begin(), calls_.end(), exempt) || std::any_of(waiting_.begin(), waiting_.end(), exempt);
}

bool Calls::has_terminal(std::uint32_t number) const {
  auto at = calls_.find(number);
  return at != calls_.end() && at->second.request.process.terminal.has_value();
}

std::optional<std::uint32_t> Calls::named(const std::string& name) const {
  for (const auto& [number, call] : calls_)
    if (call.name == name) return number;
  return std::nullopt;
}

std::string Calls::name_in(const std::string& group) const {
  std::size_t at = group.rfind(setting_.cgroup.path + "/");
  if (setting_.cgroup.path.empty() || at == std::string::npos) return {};
  std::string leaf = group.substr(at + setting_.cgroup.path.size() + 1);
  for (const auto& [number, call] : calls_)
    if (leaf == fmt::format("c{}", number)) return call.name;
  return leaf == "init" ? "" : leaf;  // of a call that has ended and left processes behind; "init": Cgroup::make_room
}

bool Calls::attach(std::uint32_t number, std::uint64_t offset, Listener* listener) {
  Call* call = find(number);
  if (!call) return false;
  std::uint32_t viewer = next_viewer_++;
  call->viewers[viewer] = {listener, {}};
  std::string name(reinterpret_cast<const char*>(&viewer), sizeof viewer);
  for (const auto& [stream, each] : call->streams) send(Kind::Replay, number, offset, name, stream);
  return true;
}

bool Calls::hear() {
  while (readable(setting_.control)) {
    std::optional<Frame> frame = isolate::init::receive_frame(setting_.control);
    if (!frame) return false;
    setting_.stir();
    if (frame->kind == Kind::Parked) {
      parked_ = static_cast<int>(frame->offset);
      return true;
    }
    Call* call = find(frame->call);
    if (!call) continue;
    switch (frame->kind) {
      case Kind::Started:
        call->pid = static_cast<int>(frame->offset);
        if (frame->call == 0) program_pid_ = call->pid;
        events_.write(events::ProcessStarted{call->pid, call->request.process.argv,
                                             call->name.empty() ? std::nullopt : std::optional(call->name)});
        if (call->owner) call->owner->started(call->pid);
        break;
      case Kind::Failed: fail(frame->call, *call, with_hint(isolate::init::decode_failure(frame->bytes))); break;
      case Kind::Output: take_output(*call, *frame); break;
      case Kind::Replayed:
      case Kind::Again: take_again(*call, *frame); break;
      case Kind::Signal: program_signal_ = static_cast<int>(frame->offset); break;
      case Kind::Acknowledge: call->input_taken = frame->offset; break;
      case Kind::Exited:
        finish(frame->call, *call, {static_cast<int>(frame->offset >> 8), static_cast<int>(frame->offset & 0xff)});
        break;
      default: break;
    }
    if (frame->call == 0 && program_exit_) break;
  }
  return true;
}

void Calls::log(Stream& stream, std::string_view bytes) {
  std::uint64_t room = bytes.size();
  if (setting_.output_bytes) room = std::min(room, setting_.output_bytes - std::min(setting_.output_bytes, output_));
  output_ += bytes.size();
  if (room) stream.log->bytes(bytes.substr(0, room));
  if (room == bytes.size()) return;
  stream.log->drop(bytes.size() - room);
  if (!std::exchange(output_told_, true)) {
    events_.write(events::LimitReached{events::Limit::Output, setting_.output_bytes, {"bytes of output", output_}, std::nullopt});
    notes_.push_back(fmt::format("the output limit of {} was reached (bytes of output: {})", setting_.output_bytes, output_));
  }
}

void Calls::take_output(Call& call, const Frame& frame) {
  auto at = call.streams.find(frame.stream);
  if (at == call.streams.end()) return;
  Stream& stream = at->second;
  stream.received = frame.offset + frame.bytes.size();
  if (stream.log) log(stream, frame.bytes);
  if (call.owner) call.owner->output(frame.stream, frame.offset, frame.bytes);
  for (auto& [number, viewer] : call.viewers) {
    // Before its replay has begun, what comes now is part of that; afterwards its end is where live output goes on.
    auto next = viewer.next.find(frame.stream);
    if (next == viewer.next.end() || next->second != frame.offset) continue;
    viewer.listener->output(frame.stream, frame.offset, frame.bytes);
    next->second = stream.received;
  }
}

void Calls::take_again(Call& call, const Frame& frame) {
  std::uint32_t number = 0;
  if (frame.bytes.size() < sizeof number) return;
  std::memcpy(&number, frame.bytes.data(), sizeof number);
  auto viewer = call.viewers.find(number);
  if (viewer == call.viewers.end()) return;
  std::string_view bytes = std::string_view(frame.bytes).substr(sizeof number);
  viewer->second.next[frame.stream] = frame.offset + bytes.size();
  viewer->second.listener->output(frame.stream, frame.offset, bytes);
}

void Calls::acknowledge(bool ready) {
  if (!ready) return;
  for (auto& [number, call] : calls_) {
    bool room = !(call.owner && call.owner->full());
    for (auto& [n, viewer] : call.viewers) room = room && !viewer.listener->full();
    if (!room) continue;
    for (auto& [stream, each] : call.streams)
      if (each.acknowledged != each.received) send(Kind::Acknowledge, number, each.acknowledged = each.received, {}, stream);
  }
}

int Calls::time_left() const {
  int least = -1;
  for (const auto& [name, service] : waiting_) {
    int left = milliseconds_left(service.since, service.pause_ms);
    least = least < 0 ? left : std::min(least, left);
  }
  for (const auto& [number, call] : calls_) {
    if (!call.request.wall_ms || call.timed_out) continue;
    int left = milliseconds_left(call.began, call.request.wall_ms);
    least = least < 0 ? left : std::min(least, left);
  }
  return least;
}

void Calls::restart(const Call& call, bool failed) {
  Restart policy = call.request.restart;
  if (call.cancelled || policy == Restart::No || (policy == Restart::OnFailure && !failed)) return;
  constexpr std::uint64_t kFirst = 100, kLongest = 10'000;
  std::uint64_t& pause = pauses_[call.name];
  // One that has run for a while begins anew with short pauses, as with systemd and docker.
  pause = pause == 0 || milliseconds_since(call.began) > kLongest ? kFirst : std::min(pause * 2, kLongest);
  waiting_[call.name] = {call.request, pause, Clock::now()};
}

void Calls::restart_services() {
  for (auto at = waiting_.begin(); at != waiting_.end();) {
    if (milliseconds_since(at->second.since) < at->second.pause_ms) {
      ++at;
      continue;
    }
    CallRequest request = at->second.request;
    at = waiting_.erase(at);
    begin(request, nullptr);
  }
}

void Calls::check_deadlines() {
  restart_services();
  for (auto& [number, call] : calls_) {
    if (!call.request.wall_ms || call.timed_out || milliseconds_since(call.began) < call.request.wall_ms) continue;
    cancel(number);
    call.timed_out = true;
    events_.write(events::LimitReached{events::Limit::Wall, call.request.wall_ms, {"monotonic clock, ms", milliseconds_since(call.began)},
                                       call.name.empty() ? std::nullopt : std::optional(call.name)});
  }
}

void Calls::finish(std::uint32_t number, Call& call, const Exit& exit) {
  for (auto& [stream, each] : call.streams)
    if (each.log) each.log->finish();
  if (number == 0) {  // its end is the session's, which the supervisor judges
    program_exit_ = exit;
    CallEnd end;
    end.verdict.exit_code = exit.signal ? 128 + exit.signal : exit.code;
    for (auto& [n, viewer] : call.viewers) viewer.listener->exited(end);
    return;
  }
  Ending ending;
  ending.exit = exit;
  ending.timed_out = call.timed_out;
  ending.counters = call.cgroup.counters();
  isolate::CgroupCounters session = isolate::Cgroup::open(setting_.cgroup.path, setting_.cgroups).counters();
  if (!ending.counters.oom_kills && exit.signal == SIGKILL && !call.cancelled && session.oom_kills > call.before.oom_kills) {
    ending.counters.oom_kills = session.oom_kills - call.before.oom_kills;  // the session's own limit was met
    ending.counters.oom_source = session.oom_source;
  }
  if (call.cancelled && !call.timed_out) ending.forwarded_signal = exit.signal;
  CallEnd end;
  end.verdict = judge(ending);
  events::ProcessExited& event = end.event;
  event.pid = call.pid;
  if (exit.signal) event.signal = exit.signal;
  else event.exit = exit.code;
  event.call = call.name;
  event.result = events::word(end.verdict.result);
  event.reason = end.verdict.reason;
  event.ms = milliseconds_since(call.began);
  event.cpu_us = ending.counters.cpu_microseconds;
  if (ending.counters.memory_peak) event.memory_peak = ending.counters.memory_peak;
  if (std::size_t left = call.cgroup.processes().size()) event.left = left;
  event.evidence = end.verdict.evidence;
  if (ending.counters.oom_kills && call.request.limits.memory)
    events_.write(events::LimitReached{events::Limit::Memory, static_cast<std::uint64_t>(*call.request.limits.memory),
                                       {ending.counters.oom_source, ending.counters.oom_kills}, call.name});
  if (ending.counters.forks_refused && call.request.limits.pids)
    events_.write(events::LimitReached{events::Limit::Pids, static_cast<std::uint64_t>(*call.request.limits.pids),
                                       {ending.counters.pids_source, ending.counters.forks_refused}, call.name});
  events_.write(event);
  if (call.owner) call.owner->exited(end);
  for (auto& [n, viewer] : call.viewers)
    if (viewer.listener != call.owner) viewer.listener->exited(end);
  restart(call, end.verdict.result != events::Result::Success);
  // What it left behind lives on in its group until the session ends, whose removal takes all groups below.
  if (event.left) call.cgroup.leave();
  send(Kind::Forget, number);
  calls_.erase(number);
}

void Calls::fail(std::uint32_t number, Call& call, const isolate::SetupFailure& failure) {
  if (number == 0) {
    program_failure_ = failure;
    return;
  }
  if (call.owner) call.owner->failed(failure);
  send(Kind::Forget, number);
  calls_.erase(number);
}

void Calls::finish_streams() {
  for (auto& [number, call] : calls_)
    for (auto& [stream, each] : call.streams)
      if (each.log) each.log->finish();
}

}  // namespace runner::supervise
