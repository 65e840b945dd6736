// The tool `exec`: a program in the session, as a call of its own with a cgroup of its own.
#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <thread>

#include "runner/agent/expert.h"
#include "runner/agent/toolbox.h"
#include "runner/agent/wire.h"
#include "runner/supervise/client.h"

namespace runner::agent {

using json = nlohmann::json;

namespace {

constexpr std::uint64_t kExecDeadline = 120'000;  // milliseconds, when the model does not say

// What a stream printed, of which the beginning and the end are kept.
class Kept {
 public:
  void add(std::string_view bytes) {
    total_ += bytes.size();
    std::size_t room = std::min(kHead - head_.size(), bytes.size());
    head_.append(bytes.substr(0, room));
    tail_.append(bytes.substr(room));
    if (tail_.size() > 2 * kTail) tail_.erase(0, tail_.size() - kTail);
  }
  std::uint64_t total() const { return total_; }
  std::string text() const {
    std::string tail = tail_.size() > kTail ? tail_.substr(tail_.size() - kTail) : tail_;
    std::uint64_t lost = total_ - head_.size() - tail.size();
    return lost ? fmt::format("{}\n[{} bytes are left out here]\n{}", head_, lost, tail) : head_ + tail;
  }

 private:
  static constexpr std::size_t kHead = 48 << 10, kTail = 16 << 10;
  std::string head_, tail_;
  std::uint64_t total_ = 0;
};

// For the model, and for the event: how a program ended.
void read_exit(const std::string& data, const Kept& out, const Kept& err, ToolEnd& end) {
  events::ProcessExited exited = supervise::parse_exited(data);
  end.exit = exited.exit;
  end.signal = exited.signal;
  if (exited.result && *exited.result != "success" && *exited.result != "exit-code") end.verdict = exited.result, end.reason = exited.reason;
  end.cpu_us = exited.cpu_us;
  end.memory_peak = exited.memory_peak;
  end.evidence = exited.evidence;
  end.result.is_error = !(exited.exit && *exited.exit == 0) || end.verdict;
  json told = json::object();
  if (exited.exit) told["exit"] = *exited.exit;
  if (exited.signal) told["signal"] = *exited.signal;
  if (end.verdict) told["ended_by"] = *end.verdict;
  if (end.reason) told["reason"] = *end.reason;
  told["stdout"] = out.text();
  told["stderr"] = err.text();
  if (exited.left) told["left_running"] = *exited.left;
  end.result.content.emplace_back(Text{told.dump(-1, ' ', false, json::error_handler_t::replace)});
}

// Where a program may begin: in the workspace, by whatever path.
std::string working_directory(const std::string& asked) {
  std::string path = asked.empty() || asked[0] != '/' ? "/workspace/" + asked : asked;
  if (path != "/workspace" && !path.starts_with("/workspace/")) throw std::runtime_error(fmt::format("exec: cwd '{}' is not in the workspace", asked));
  for (std::size_t at = 0; (at = path.find("..", at)) != std::string::npos; at += 2)
    if (path[at - 1] == '/' && (at + 2 == path.size() || path[at + 2] == '/')) throw std::runtime_error(fmt::format("exec: cwd '{}' may not contain '..'", asked));
  return path;
}

constexpr std::uint64_t kEndIsWritten = 2000;  // milliseconds

}  // namespace

ToolEnd Toolbox::use_exec(const Call& call, bool begun) {
  std::optional<SessionCall> running;
  Kept out, err;
  std::uint64_t from[3] = {0, 0, 0};  // what the log has told already
  std::string session;  // which one it is
  isolate::sys::Fd connection = context_.hands.connect(session_, &session);
  auto unknown = [](const char* why) { return error_end(fmt::format("exec: {}; what the program did is not known", why)); };
  if (begun) {
    // One that has the call is the one that was asked for it, as no two calls have one name.
    bool same = context_.results.at("I " + intent_of(call)) == "exec " + session;
    std::optional<LoggedCall> logged;
    bool whole = true;
    // One that has begun and does not run any more has an end, which may be about to be written.
    for (auto since = supervise::Clock::now();;) {
      running = SessionCall::attach(std::move(connection), call.key);
      logged = find_in_log(context_.hands.open_log(session_), call.key, &whole);
      if (running || !logged || logged->exited || supervise::milliseconds_since(since) > kEndIsWritten) break;
      std::this_thread::sleep_for(std::chrono::milliseconds(10));
      context_.check();
      connection = context_.hands.connect(session_);
    }
    if (!logged && !running && !same) return unknown("the sandbox ended while the call ran");
    if (!logged && !running && !whole) return unknown("the log of the sandbox does not reach back to the call any more");
    if (logged) {
      out.add(logged->out.bytes);
      err.add(logged->err.bytes);
      from[1] = logged->out.end(), from[2] = logged->err.end();
      ToolEnd end;
      if (logged->exited) return read_exit(*logged->exited, out, err, end), end;
      if (!running) return unknown("it was running when the job was interrupted, and its end was not recorded");
    }
    if (!running) connection = context_.hands.connect(session_);
  }
  if (!running) {
    json arguments = json::parse(call.wish.arguments);
    supervise::CallWish wish;
    wish.argv = arguments.at("argv").get<std::vector<std::string>>();
    for (const std::string& word : wish.argv)
      if (word.find('\0') != std::string::npos) throw std::runtime_error("exec: an argument has a NUL byte in it, behind which no program would see anything");
    wish.cwd = working_directory(arguments.value("cwd", ""));
    const json variables = arguments.value("env", json::object());  // items() does not keep it alive
    for (const auto& [name, value] : variables.items()) {
      if (is_reserved_variable(name)) throw std::runtime_error(fmt::format("exec: variable {} cannot be set", name));
      wish.env.push_back(name + "=" + value.get<std::string>());
    }
    wish.wall_ms = arguments.value("timeout_ms", kExecDeadline);
    wish.detached = true;
    wish.service = call.key;
    context_.journal.add('I', intent_of(call), "exec " + session);
    running = SessionCall::start(std::move(connection), wish);
  }
  try {
    for (;;) {
      context_.check();
      auto piece = running->next(kSlice);
      if (!piece) continue;
      if (piece->stream == 0) {
        ToolEnd end;
        return read_exit(piece->bytes, out, err, end), end;
      }
      std::uint64_t known = from[piece->stream == 2 ? 2 : 1], skip = known > piece->offset ? known - piece->offset : 0;
      if (skip < piece->bytes.size()) (piece->stream == 2 ? err : out).add(std::string_view(piece->bytes).substr(skip));
    }
  } catch (const EndsJob&) {
    running->kill();
    throw;
  }
}

}  // namespace runner::agent
