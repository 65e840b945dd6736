#include "runner/code/cell.h"

#include <poll.h>
#include <signal.h>
#include <sys/random.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <limits>
#include <nlohmann/json.hpp>

#include "isolate/init/protocol.h"
#include "isolate/link.h"
#include "isolate/sys/error.h"
#include "runner/supervise/calls.h"
#include "runner/supervise/client.h"
#include "runner/supervise/tty.h"

namespace runner::code {

using namespace isolate::sys;
using isolate::init::Frame;
using isolate::init::Kind;
using json = nlohmann::json;
using supervise::Clock;

namespace {

constexpr std::uint64_t kGrace = 3000;  // milliseconds between an interruption and the kill, when the time is over

std::string json_line(const json& object) { return object.dump(-1, ' ', true, json::error_handler_t::replace) + "\n"; }

std::string fresh_id() {
  std::uint64_t number;
  check(::getrandom(&number, sizeof number, 0), "get random bytes");
  return fmt::format("{:016x}", number);
}

void send(const Fd& connection, Kind kind, std::uint64_t offset = 0, std::string_view bytes = {}) {
  isolate::init::send_frame(connection.get(), {kind, 0, 0, offset, {}, {}}, bytes);
}

void say(const Fd& connection, std::string_view text) {
  for (; !text.empty(); text.remove_prefix(std::min(text.size(), isolate::init::kLargestPiece)))
    send(connection, Kind::Input, 0, text.substr(0, isolate::init::kLargestPiece));
}

class Run {
 public:
  Run(const Fd& connection, const Cell& cell, Audience& audience)
      : connection_(connection),
        cell_(cell),
        audience_(audience),
        id_(fresh_id()),
        signals_(supervise::catch_signals()) {
    if (cell.source) request_ = request_of(*cell.source);
  }

  CellEnd run() {
    unsent_ = json_line({{"id", id_}});
    while (!over_) {
      std::vector<supervise::Output*> outputs = audience_.outputs();
      bool full = std::any_of(outputs.begin(), outputs.end(), [](const auto* out) { return out->full(); });
      std::vector<pollfd> wait{{full ? -1 : connection_.get(), POLLIN, 0},
                               {unsent_.empty() ? -1 : connection_.get(), POLLOUT, 0},
                               {signals_.get(), POLLIN, 0}};
      for (const auto* out : outputs) wait.push_back({out->waiting() ? out->fd() : -1, POLLOUT, 0});
      if (::poll(wait.data(), wait.size(), time_left()) == -1 && errno != EINTR) fail(errno, "wait for a cell");
      for (auto* out : outputs) out->flush();
      if (wait[0].revents) hear();
      if (wait[1].revents && !over_) say_more();
      if (wait[2].revents) take_signals();
      if (time_left() == 0 && !over_) out_of_time();
    }
    if (began_) end_.ms = supervise::milliseconds_since(*began_);
    return end_;
  }

 private:
  std::string request_of(const std::string& source) const {
    try {
      return json{{"id", id_}, {"code", source}}.dump(-1, ' ', true) + "\n";
    } catch (const json::exception&) {
      throw std::runtime_error("the cell is not UTF-8 text");
    }
  }

  int time_left() const {
    if (killed_ || !began_ || !cell_.timeout_ms) return -1;
    return timed_out_ ? supervise::milliseconds_left(*timed_out_, kGrace)
                      : supervise::milliseconds_left(*began_, cell_.timeout_ms);
  }

  void out_of_time() {
    if (!timed_out_) {
      timed_out_ = Clock::now();
      end_.how = How::TimedOut;
      return send(connection_, Kind::Signal, SIGINT);
    }
    killed_ = true;
    send(connection_, Kind::Forget);
  }

  void take_signals() {
    signalfd_siginfo info;
    while (::read(signals_.get(), &info, sizeof info) == sizeof info) {
      int number = static_cast<int>(info.ssi_signo);
      if (number == SIGCHLD || number == SIGWINCH || number == SIGCONT) continue;
      bool leaves = !began_ || end_.signal != 0;  // before it began, what runs is somebody else's
      end_.signal = number;
      if (leaves)
        end_.how = How::Left, over_ = true;
      else
        send(connection_, Kind::Signal, SIGINT);
    }
  }

  void say_more() {
    while (!unsent_.empty()) {
      std::string_view piece = std::string_view(unsent_).substr(0, isolate::init::kLargestPiece);
      if (!isolate::init::send_frame(connection_.get(), {Kind::Input, 0, 0, 0, {}, {}}, piece, {}, true)) return;
      unsent_.erase(0, piece.size());
    }
  }

  void hear() {
    auto frame = isolate::init::receive_frame(connection_.get());
    if (!frame) throw std::runtime_error("the session ended before the cell did");
    if (frame->kind == Kind::Exited) return lost(frame->bytes);
    if (frame->kind != Kind::Output) return;
    if (frame->stream != isolate::init::kChannelStream) {
      if (began_)
        audience_.output(frame->stream, frame->bytes);  // before: of what ran earlier, and in the session's log
      return;
    }
    lines_.add(frame->bytes);
    while (auto line = over_ ? std::nullopt : lines_.next()) take(*line);
    if (!lines_.too_long()) return;
    if (began_) throw BadAnswer(fmt::format("a line of more than {} bytes", kLongestAnswer));
    lines_.forget();
  }

  // Up to our turn there may be the rest of an answer to somebody else, and whatever they made of it.
  void take(const std::string& line) {
    if (!began_) {
      try {
        begin(parse_answer(line));
      } catch (const BadAnswer&) {
      }
      return;
    }
    Answer answer = parse_answer(line);
    auto* done = std::get_if<Done>(&answer);
    if (!done || done->id != id_) throw BadAnswer("an answer to what was not asked");
    end_.done = std::move(*done);
    over_ = true;
  }

  void begin(const Answer& answer) {
    const Ready* ready = std::get_if<Ready>(&answer);
    if (!ready || ready->id != id_) return;
    began_ = Clock::now();
    audience_.ready(*ready);
    unsent_ = request_;
    over_ = !cell_.source;
  }

  void lost(const std::string& event) {
    events::ProcessExited exited = supervise::parse_exited(event);
    end_.lost = over_ = true;
    if (end_.how == How::Done) end_.how = How::Lost;
    end_.result = exited.result.value_or("");
    end_.reason = exited.reason.value_or("");
  }

  const Fd& connection_;
  const Cell& cell_;
  Audience& audience_;
  std::string id_, request_, unsent_;
  Fd signals_;
  Lines lines_;
  CellEnd end_;
  std::optional<Clock::time_point> began_, timed_out_;
  bool over_ = false, killed_ = false;
};

}  // namespace

std::string call_of(const std::string& context) { return "code-" + context; }

std::optional<Fd> find_context(const std::string& socket, const std::string& context) {
  Fd connection = supervise::connect_to_session(socket);
  send(connection, Kind::Replay, std::numeric_limits<std::uint64_t>::max(), call_of(context));
  auto answer = isolate::init::receive_frame(connection.get());
  if (!answer) throw std::runtime_error("the session has ended");
  if (answer->kind != Kind::Started) return std::nullopt;
  return connection;
}

Fd begin_context(const std::string& socket, const std::string& context, const Language& language,
                 const Limits& limits) {
  supervise::CallWish wish;
  wish.memory = limits.memory;
  wish.pids = limits.pids;
  wish.argv = language.argv();
  wish.env = language.env;
  wish.detached = wish.interactive = wish.channel = true;
  wish.service = call_of(context);
  supervise::Watching only_begin;
  only_begin.detached = true;
  supervise::run_call(supervise::connect_to_session(socket), wish, only_begin);
  std::optional<Fd> connection = find_context(socket, context);
  if (!connection) throw std::runtime_error(fmt::format("{} ended as soon as it had begun", language.program));
  say(*connection, json_line({{"driver", language.driver}}));
  return std::move(*connection);
}

void interrupt_context(const Fd& connection) {
  send(connection, Kind::Signal, SIGINT);
  // A supervisor that cannot write to a client drops it with all that it said last: so this end stays open for reading until it has heard that.
  check(::shutdown(connection.get(), SHUT_WR), "end a conversation");
  while (isolate::init::receive_frame(connection.get())) {
  }
}

void end_context(const Fd& connection) {
  send(connection, Kind::Forget);
  while (auto frame = isolate::init::receive_frame(connection.get()))
    if (frame->kind == Kind::Exited) return;
}

CellEnd run_cell(const Fd& connection, const Cell& cell, Audience& audience) {
  return Run(connection, cell, audience).run();
}

}  // namespace runner::code
