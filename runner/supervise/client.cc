#include "runner/supervise/client.h"

#include <poll.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <nlohmann/json.hpp>
#include <stdexcept>

#include "isolate/init/protocol.h"
#include "isolate/link.h"
#include "isolate/sys/error.h"
#include "isolate/sys/socket.h"
#include "runner/supervise/output.h"
#include "runner/supervise/tty.h"

namespace runner::supervise {

using namespace isolate::sys;
using isolate::init::Frame;
using isolate::init::Kind;

namespace {

// "STAGE\0PATH\0CAUSE\0HINT"
isolate::SetupFailure parse_failure(const Frame& frame) {
  std::vector<std::string> fields(1);
  for (char c : frame.bytes)
    if (c == '\0') fields.emplace_back();
    else fields.back() += c;
  fields.resize(4);
  return {static_cast<isolate::Stage>(std::atoi(fields[0].c_str())), static_cast<int>(frame.offset), fields[1], fields[2], fields[3]};
}

// Finds the detach keys in what is typed, also when they come one at a time.
class DetachKeys {
 public:
  explicit DetachKeys(std::string keys) : keys_(std::move(keys)) {}
  /// What goes in; `left` becomes true behind the last key.
  std::string pass(std::string_view typed, bool& left) {
    std::string in;
    for (char c : typed) {
      if (keys_.empty()) {
        in += c;
      } else if (c == keys_[matched_]) {
        if (++matched_ == keys_.size()) return left = true, in;
      } else {
        in += keys_.substr(0, matched_);
        matched_ = c == keys_[0] ? 1 : 0;
        if (matched_ == 0) in += c;
      }
    }
    return in;
  }

 private:
  std::string keys_;
  std::size_t matched_ = 0;
};

class Viewer {
 public:
  Viewer(const Fd& socket, const Watching& how)
      : socket_(socket), how_(how), signals_(catch_signals()), keys_(how.detach_keys), out_(1), err_(2), input_open_(how.interactive) {}

  Watched stay() {
    while (!done_) {
      pollfd wait[] = {{out_.full() || err_.full() ? -1 : socket_.get(), POLLIN, 0},
                       {signals_.get(), POLLIN, 0},
                       {input_open_ && began_ && !blocked_ ? 0 : -1, POLLIN, 0},
                       {out_.waiting() ? out_.fd() : -1, POLLOUT, 0},
                       {err_.waiting() ? err_.fd() : -1, POLLOUT, 0},
                       {blocked_ ? socket_.get() : -1, POLLOUT, 0}};
      if (::poll(wait, 6, -1) == -1 && errno != EINTR) fail(errno, "wait for the session");
      if (wait[3].revents) out_.flush();
      if (wait[4].revents) err_.flush();
      if (wait[5].revents) send_input();
      if (wait[1].revents) take_signals();
      if (wait[2].revents) read_input();
      if (wait[0].revents) hear();
    }
    out_.drain();
    err_.drain();
    return result_;
  }

 private:
  void send(Kind kind, std::uint64_t offset = 0, std::string_view bytes = {}) {
    try {
      isolate::init::send_frame(socket_.get(), {kind, 0, 0, offset, {}, {}}, bytes);
    } catch (const SystemError& error) {
      if (error.code() != EPIPE && error.code() != ECONNRESET) throw;  // hear() finds out what the supervisor said last
    }
  }

  void hear() {
    auto frame = isolate::init::receive_frame(socket_.get());
    if (!frame) throw std::runtime_error("the session ended before the command did");
    switch (frame->kind) {
      case Kind::Started:
        began_ = true;
        result_.call = frame->call;
        terminal_ = frame->stream == 1;
        if (terminal_ && how_.interactive) raw_.emplace(0);
        if (terminal_) tell_size();
        if (how_.on_started) how_.on_started(static_cast<int>(frame->offset));
          done_ = how_.detached;
        return;
      case Kind::Failed: throw isolate::SetupError(parse_failure(*frame));
      case Kind::Output:
        if (frame->stream == isolate::init::kChannelStream) return;  // what an interpreter says to `code` is no output
        if (how_.on_output) how_.on_output(frame->stream, frame->offset, frame->bytes);
        else (frame->stream == 2 ? err_ : out_).write(frame->bytes);
        return;
      case Kind::Exited:
        if (how_.on_exited) how_.on_exited(frame->bytes);
        result_.exit_code = static_cast<int>(frame->offset);
        done_ = true;
        return;
      case Kind::Forget:
        done_ = result_.taken = true;
        return;
      default: return;
    }
  }

  void tell_size() {
    winsize size;
    if (::ioctl(0, TIOCGWINSZ, &size) == 0) send(Kind::Resize, static_cast<std::uint64_t>(size.ws_row) << 16 | size.ws_col);
  }

  void take_signals() {
    signalfd_siginfo info;
    while (::read(signals_.get(), &info, sizeof info) == sizeof info) {
      int number = static_cast<int>(info.ssi_signo);
      if (number == SIGWINCH && terminal_) tell_size();
      else if (how_.only_looks && number != SIGCHLD && number != SIGWINCH) done_ = true, result_.exit_code = 128 + number;
      else if (number != SIGCHLD && number != SIGWINCH) send(Kind::Signal, static_cast<std::uint64_t>(number));
    }
  }

  void read_input() {
    char bytes[32768];
    ssize_t got = ::read(0, bytes, sizeof bytes);
    if (got == -1 && (errno == EAGAIN || errno == EINTR)) return;
    if (got <= 0) {
      input_open_ = false;
      if (!terminal_) ended_ = true;
    } else {
      unsent_ = keys_.pass({bytes, static_cast<std::size_t>(got)}, result_.left);
      done_ = result_.left;
    }
    send_input();
    if (result_.left) send(Kind::Go);  // else the end of the connection would cancel a call that we have started
  }

  // The supervisor reads no further while the call takes nothing: then neither do we, and signals still get through.
  void send_input() {
    try {
      blocked_ = !unsent_.empty() && !isolate::init::send_frame(socket_.get(), {Kind::Input, 0, 0, 0, {}, {}}, unsent_, {}, true);
    } catch (const SystemError&) {
      input_open_ = false;
    }
    if (blocked_) return;
    unsent_.clear();
    if (std::exchange(ended_, false)) send(Kind::EndInput);
  }

  const Fd& socket_;
  const Watching& how_;
  Fd signals_;
  DetachKeys keys_;
  Output out_, err_;
  std::optional<RawMode> raw_;
  Watched result_;
  std::string unsent_;
  bool input_open_, terminal_ = false, began_ = false, blocked_ = false, ended_ = false, done_ = false;
};

}  // namespace

Fd connect_to_session(const std::string& socket) {
  try {
    return connect_to(socket, SOCK_SEQPACKET);
  } catch (const SystemError& error) {
    if (error.code() != ENOENT && error.code() != ECONNREFUSED) throw;
    throw std::runtime_error("the session is not running: nobody answers at " + socket);
  }
}

Fd keep_awake(const std::string& socket, bool may_sleep) {
  Fd connection;
  try {
    connection = connect_to(socket, SOCK_SEQPACKET);
    isolate::init::send_frame(connection.get(), {Kind::Go, may_sleep, 0, 0, {}, {}}, {});
    pollfd answer{connection.get(), POLLIN, 0};
    constexpr int kPatience = 60'000;  // milliseconds: it may come from disk, or be on its way there
    if (::poll(&answer, 1, kPatience) == 0) fail(ETIMEDOUT, "wake the session (its supervisor does not answer at {})", socket);
    if (!isolate::init::receive_frame(connection.get())) connection.close();
  } catch (const SystemError& error) {
    if (error.code() != ENOENT && error.code() != ECONNREFUSED && error.code() != ECONNRESET && error.code() != EPIPE) throw;
    connection.close();
  }
  return connection;
}

events::ProcessExited parse_exited(const std::string& text) {
  nlohmann::json j = nlohmann::json::parse(text);
  events::ProcessExited event;
  auto read = [&](const char* name, auto& to) {
    if (j.contains(name)) to = j[name].get<typename std::decay_t<decltype(to)>::value_type>();
  };
  event.pid = j.value("pid", 0);
  read("exit", event.exit), read("signal", event.signal), read("call", event.call), read("result", event.result);
  read("reason", event.reason), read("ms", event.ms), read("cpu_us", event.cpu_us), read("memory_peak", event.memory_peak);
  read("left", event.left);
  if (j.contains("evidence")) event.evidence = events::Evidence{j["evidence"].at("source"), j["evidence"].at("counter")};
  return event;
}

Watched run_call(const Fd& socket, const CallWish& wish, const Watching& how) {
  std::string text = to_json(wish);
  if (text.size() > isolate::init::kLargestPiece) fail(E2BIG, "run a command of {} bytes in a session (arguments and environment)", text.size());
  Viewer viewer(socket, how);  // signals are caught before there is a call that they could miss
  isolate::init::send_frame(socket.get(), {Kind::Spawn, 0, 0, 0, {}, {}}, text);
  return viewer.stay();
}

Watched attach_call(const Fd& socket, const std::string& call, std::uint64_t offset, const Watching& how) {
  Viewer viewer(socket, how);
  isolate::init::send_frame(socket.get(), {Kind::Replay, how.takes_over, 0, offset, {}, {}}, call);
  return viewer.stay();
}

}  // namespace runner::supervise
