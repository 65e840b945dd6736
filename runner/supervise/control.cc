#include "runner/events/trace.h"
#include "runner/supervise/control.h"

#include <fmt/format.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <nlohmann/json.hpp>
#include <stdexcept>

#include "isolate/environment.h"
#include "isolate/init/protocol.h"
#include "isolate/sys/error.h"
#include "isolate/sys/socket.h"
#include "runner/session/directories.h"

namespace runner::supervise {

using namespace isolate::sys;
using isolate::init::Frame;
using isolate::init::Kind;
using json = nlohmann::json;

namespace {

constexpr std::size_t kFull = 1 << 20;       // bytes that wait for a client: then its call waits
constexpr std::size_t kMostClients = 256;

std::uint32_t parse_id(std::string_view text, const std::string& user) {
  std::uint32_t id = 0;
  auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), id);
  if (text.empty() || error != std::errc() || end != text.data() + text.size() || id > 65535)
    throw std::runtime_error(fmt::format("user '{}' must be UID[:GID] with ids from 0 to 65535", user));
  return id;
}

// What may be said is the caller's, what may be done the session's.
isolate::Process make_process(const CallWish& wish, const Model& model) {
  isolate::Process process = model.process;
  process.argv = wish.argv;
  // As docker has it: a terminal is an xterm, unless somebody says what it is.
  auto named = [](const std::string& variable) { return variable.starts_with("TERM="); };
  if (wish.terminal && std::none_of(process.env.begin(), process.env.end(), named)) process.env.push_back("TERM=xterm");
  const std::string& trace = events::valid_traceparent(wish.trace) ? wish.trace : model.trace;
  isolate::set_variable(process.env, "TRACEPARENT=" + events::child_traceparent(trace));
  for (const std::string& entry : wish.env) isolate::set_variable(process.env, entry);
  for (const std::string& entry : model.fixed_env) isolate::set_variable(process.env, entry);
  if (!wish.cwd.empty()) process.cwd = wish.cwd;
  if (!wish.user.empty()) {
    std::size_t colon = wish.user.find(':');
    process.uid = parse_id(std::string_view(wish.user).substr(0, colon), wish.user);
    if (colon != std::string::npos) process.gid = parse_id(std::string_view(wish.user).substr(colon + 1), wish.user);
  }
  process.groups.insert(process.groups.end(), wish.groups.begin(), wish.groups.end());
  process.terminal.reset();
  if (wish.terminal) process.terminal = isolate::Terminal{wish.rows, wish.columns, wish.scrollback};
  return process;
}

// A call may ask for less than the policy gives it, never for more. 0: nothing asked for, no limit.
std::uint64_t within(const char* flag, std::uint64_t wish, std::uint64_t most) {
  if (wish && most && wish > most) throw std::runtime_error(fmt::format("{} {} is more than the session's policy allows a call ({})", flag, wish, most));
  return wish ? wish : most;
}

}  // namespace

std::string to_json(const CallWish& w) {
  return json{{"argv", w.argv}, {"env", w.env}, {"cwd", w.cwd}, {"user", w.user}, {"groups", w.groups}, {"interactive", w.interactive},
              {"terminal", w.terminal}, {"detached", w.detached}, {"channel", w.channel}, {"rows", w.rows}, {"columns", w.columns}, {"wall_ms", w.wall_ms},
              {"memory", w.memory}, {"pids", w.pids}, {"service", w.service}, {"restart", w.restart}, {"trace", w.trace}, {"keep_awake", w.keep_awake}, {"scrollback", w.scrollback}}.dump(-1, ' ', true, json::error_handler_t::replace);
}

CallWish parse_wish(const std::string& text) {
  json j = json::parse(text);
  CallWish w;
  j.at("argv").get_to(w.argv);
  j.at("env").get_to(w.env);
  j.at("cwd").get_to(w.cwd);
  j.at("user").get_to(w.user);
  j.at("groups").get_to(w.groups);
  j.at("interactive").get_to(w.interactive);
  j.at("terminal").get_to(w.terminal);
  j.at("detached").get_to(w.detached);
  j.at("channel").get_to(w.channel);
  j.at("rows").get_to(w.rows);
  j.at("columns").get_to(w.columns);
  j.at("wall_ms").get_to(w.wall_ms);
  j.at("memory").get_to(w.memory);
  j.at("pids").get_to(w.pids);
  j.at("service").get_to(w.service);
  j.at("restart").get_to(w.restart);
  j.at("trace").get_to(w.trace);
  j.at("keep_awake").get_to(w.keep_awake);
  w.scrollback = j.value("scrollback", w.scrollback);
  if (w.argv.empty()) throw std::runtime_error("a command is missing");
  return w;
}

class Control::Client : public Listener {
 public:
  Client(Fd socket, Control& control) : socket_(std::move(socket)), control_(control), calls_(control.calls_) {}
  ~Client() override {
    calls_.drop(this);
    if (call_ && cancels_) calls_.cancel(*call_);
  }

  int fd() const { return socket_.get(); }
  bool waiting() const { return !queue_.empty(); }
  /// Its own end comes first: closing with something of the client's unread would throw away what it has not read (unix(7), ECONNRESET).
  bool gone() const { return gone_; }
  /// For the end of its call. Not of a terminal, before which somebody may sit all night: what is typed wakes the session.
  bool waits() const { return !over_ && !only_stays_ && (!call_ || (cancels_ && !calls_.has_terminal(*call_))); }
  /// Not more than the call can take.
  bool reads() const { return !(call_ && calls_.input_full(*call_)); }

  std::optional<std::uint32_t> call() const { return call_; }
  /// The call is another's from here on, and lives.
  void lose() {
    calls_.drop(this);
    send({Kind::Forget, 0, 0, 0, {}, {}}, {});
    finish();
  }

  bool full() const override { return queued_ >= kFull; }
  void started(int pid) override { send({Kind::Started, calls_.has_terminal(call_.value_or(0)), call_.value_or(0), static_cast<std::uint64_t>(pid), {}, {}}, {}); }
  void failed(const isolate::SetupFailure& f) override {
    send({Kind::Failed, 0, 0, static_cast<std::uint64_t>(f.code), {}, {}},
         fmt::format("{}{}{}{}{}{}{}", static_cast<int>(f.stage), '\0', f.path, '\0', f.cause, '\0', f.hint));
    finish();
  }
  void output(std::uint8_t stream, std::uint64_t offset, std::string_view bytes) override {
    send({Kind::Output, stream, call_.value_or(0), offset, {}, {}}, bytes);
  }
  void exited(const CallEnd& end) override {
    json event = json::object();
    auto add = [&](const char* name, const auto& value) { put(event, name, value); };
    end.event.fields(add);
    send({Kind::Exited, 0, call_.value_or(0), static_cast<std::uint64_t>(end.verdict.exit_code), {}, {}}, event.dump());
    finish();
  }

  void hear() {
    if (!readable(socket_.get())) return;
    try {
      auto frame = isolate::init::receive_frame(socket_.get());
      if (!frame) gone_ = true;
      else obey(*frame);
    } catch (const std::exception& error) {
      refuse(error.what());
    }
  }

  void flush() {
    while (!queue_.empty() && !gone_) {
      const auto& [frame, bytes] = queue_.front();
      try {
        if (!isolate::init::send_frame(socket_.get(), frame, bytes, {}, true)) return;
      } catch (const SystemError&) {
        gone_ = true;
        return;
      }
      queued_ -= bytes.size();
      queue_.pop_front();
    }
  }

 private:
  template <typename T>
  static void put(json& to, const char* name, const T& value) {
    if constexpr (requires { value.has_value(); }) {
      if (value) put(to, name, *value);
    } else if constexpr (requires { value.source; }) {
      to[name] = {{"source", value.source}, {"counter", value.counter}};
    } else {
      to[name] = value;
    }
  }

  void send(const Frame& frame, std::string_view bytes) {
    try {
      if (queue_.empty() && isolate::init::send_frame(socket_.get(), frame, bytes, {}, true)) return;
    } catch (const SystemError&) {
      gone_ = true;
      return;
    }
    queue_.emplace_back(Frame{frame.kind, frame.stream, frame.call, frame.offset, {}, {}}, std::string(bytes));
    queued_ += bytes.size();
  }

  void refuse(const std::string& why) { failed({isolate::Stage::Start, EINVAL, {}, why, {}}); }

  void finish() {
    over_ = true;
    cancels_ = false;
    call_.reset();
  }

  void obey(const Frame& frame) {
    if (over_) return;
    if (!call_) {
      // Somebody who has died may have said something that is not read yet: who takes up his work must not find it undone, and then done twice.
      if (frame.kind == Kind::Spawn || frame.kind == Kind::Replay) control_.hear_all_but(*this);
      if (frame.kind == Kind::Spawn) return begin(parse_wish(frame.bytes));
      if (frame.kind == Kind::Park || frame.kind == Kind::Wake) {
        over_ = true;
        return control_.snapshot_(socket_.get(), frame);
      }
      only_stays_ = frame.kind == Kind::Go && frame.stream;
      if (frame.kind == Kind::Go) return send({Kind::Go, 0, 0, 0, {}, {}}, {});
      if (frame.kind != Kind::Replay) throw std::runtime_error("a connection begins with a call, or with one to look on at");
      call_ = calls_.named(frame.bytes);
      if (!call_ || !calls_.attach(*call_, frame.offset, this)) throw std::runtime_error(fmt::format("no call {} is running in this session", frame.bytes));
      if (frame.stream) control_.take_over(*this);
      return send({Kind::Started, calls_.has_terminal(*call_), *call_, calls_.input_sent(*call_), {}, {}}, {});
    }
    switch (frame.kind) {
      case Kind::Input: return calls_.input(*call_, frame.bytes);
      case Kind::EndInput: return calls_.end_input(*call_);
      case Kind::Resize: return calls_.resize(*call_, static_cast<unsigned short>(frame.offset >> 16), static_cast<unsigned short>(frame.offset));
      case Kind::Signal: return calls_.signal(*call_, static_cast<int>(frame.offset));
      case Kind::Forget: return calls_.cancel(*call_);
      case Kind::Go: cancels_ = false; return;
      default: return;
    }
  }

  void begin(const CallWish& wish) {
    CallRequest request;
    request.process = make_process(wish, control_.model_);
    request.keeps_input = wish.interactive;
    if (wish.channel && wish.terminal) throw std::runtime_error("a call has a terminal or a channel, not both");
    request.channel = wish.channel;
    // A service goes on until somebody stops it.
    request.wall_ms = within("--timeout", wish.wall_ms, wish.service.empty() ? control_.model_.wall_ms : 0);
    if (auto memory = within("--memory", wish.memory, control_.model_.memory))
      request.limits.memory = request.limits.memory_and_swap = static_cast<std::int64_t>(memory);
    if (auto pids = within("--pids-limit", wish.pids, control_.model_.pids)) request.limits.pids = static_cast<std::int64_t>(pids);
    if (std::string why = session::why_bad_id(wish.service); !why.empty() && !wish.service.empty())
      throw std::runtime_error(fmt::format("service '{}': {}", wish.service, why));  // events hold it as it is
    request.service = wish.service;
    request.restart = wish.restart;
    request.keeps_awake = wish.keep_awake;
    call_ = calls_.begin(request, this);
    cancels_ = !wish.detached;
  }

  Fd socket_;
  Control& control_;
  Calls& calls_;
  std::optional<std::uint32_t> call_;
  std::deque<std::pair<Frame, std::string>> queue_;
  std::size_t queued_ = 0;
  bool cancels_ = false, gone_ = false, over_ = false, only_stays_ = false;
};

Control::Control(Fd listener, Calls& calls, Model model, Snapshot snapshot)
    : listener_(std::move(listener)), calls_(calls), model_(std::move(model)), snapshot_(std::move(snapshot)) {}
Control::~Control() = default;

void Control::wait_for(std::vector<pollfd>& list) const {
  list.push_back({clients_.size() < kMostClients ? listener_.get() : -1, POLLIN, 0});
  for (const Client& client : clients_)
    list.push_back({client.fd(), static_cast<short>((client.reads() ? POLLIN : 0) | (client.waiting() ? POLLOUT : 0)), 0});
}

void Control::ready(const pollfd* list) {
  const pollfd* at = list + 1;
  for (Client& client : clients_) {
    if (at->revents & (POLLIN | POLLHUP | POLLERR)) client.hear();
    client.flush();
    ++at;
  }
  if (list[0].revents) accept_one();
  if (clients_.remove_if([](const Client& client) { return client.gone(); })) calls_.stir();
}

bool Control::busy() const {
  return std::any_of(clients_.begin(), clients_.end(), [](const Client& client) { return client.waits(); });
}

void Control::hear_all_but(const Client& by) {
  if (std::exchange(hears_all_, true)) return;  // one of them begins a call as well
  for (Client& client : clients_)
    while (&client != &by && !client.gone() && client.reads() && readable(client.fd())) client.hear();
  hears_all_ = false;
}

void Control::take_over(const Client& by) {
  for (Client& client : clients_)
    if (&client != &by && client.call() == by.call()) client.lose();
}

void Control::accept_one() {
  Fd socket(::accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC));
  if (!socket) return;
  ucred peer{};
  socklen_t size = sizeof peer;
  bool ours = ::getsockopt(socket.get(), SOL_SOCKET, SO_PEERCRED, &peer, &size) == 0 && (peer.uid == 0 || peer.uid == ::getuid());
  if (!ours) return;
  calls_.stir();
  clients_.emplace_back(std::move(socket), *this);
  clients_.back().hear();  // it has mostly sent its wish by now
}

}  // namespace runner::supervise
