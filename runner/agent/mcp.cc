#include "runner/agent/mcp.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <chrono>

#include "runner/agent/untrusted.h"

namespace runner::agent {

namespace {

constexpr std::size_t kMostNonsense = 100;  // lines, in the life of a server
constexpr std::size_t kMostAnswers = 1000;  // to requests of the server, between two of ours: it might not read them

}  // namespace

std::uint64_t steady_ms() {
  return static_cast<std::uint64_t>(
      std::chrono::duration_cast<std::chrono::milliseconds>(std::chrono::steady_clock::now().time_since_epoch()).count());
}

McpClient::McpClient(Transport& transport, McpOptions options) : transport_(transport), options_(std::move(options)) {
  speech_.client = options_.client_version;
}

Began McpClient::begin(std::optional<Era> known, std::uint64_t deadline_ms) {
  if (known == Era::Legacy) return begin_legacy(std::string(kNewestLegacyVersion), std::nullopt, deadline_ms);
  std::uint64_t id = ask([&](std::uint64_t at) { return discover_line(at, speech_); });
  // Somebody who knows that it is a modern one gives it time to start.
  if (!wait_for(id, known ? deadline_ms : std::min(kDiscoverWait, deadline_ms), false)) {
    if (known) throw McpError(fmt::format("it did not answer server/discover within {} ms", deadline_ms));
    return begin_legacy(std::string(kNewestLegacyVersion), id, deadline_ms);
  }
  Waiting reply = waiting_[id];
  waiting_.erase(id);
  if (!reply.failure.empty()) throw McpError(reply.failure);
  Discovered found = read_discovered(reply.line);
  if (found.modern) return begin_modern(found, deadline_ms);
  if (known) throw McpError("it was known to speak " + std::string(kModernVersion) + ", but answered server/discover with " + found.why);
  return begin_legacy(std::string(kNewestLegacyVersion), std::nullopt, deadline_ms);
}

Began McpClient::begin_modern(const Discovered& found, std::uint64_t deadline_ms) {
  std::string version = pick_version(found.versions);
  if (version.empty())
    throw McpError(fmt::format("it speaks none of our versions, but {}", cleaned(fmt::format("{}", fmt::join(found.versions, ", ")))));
  if (era_of(version) == Era::Legacy) return begin_legacy(version, std::nullopt, deadline_ms);
  speech_.era = Era::Modern;
  speech_.version = version;
  return {Era::Modern, version, found.server};
}

// A server that is slow to start answers both questions, late. When it refuses the second one, the first one counts.
Began McpClient::begin_legacy(std::string version, std::optional<std::uint64_t> discover, std::uint64_t deadline_ms) {
  speech_.era = Era::Legacy;
  speech_.version = std::move(version);
  has_session_ = true;
  std::uint64_t id = ask([&](std::uint64_t at) { return initialize_line(at, speech_); });
  bool answered = wait_for(id, deadline_ms, false);
  Waiting reply = waiting_[id], late = discover ? waiting_[*discover] : Waiting{};
  waiting_.erase(id);
  if (discover) waiting_.erase(*discover);
  Initialized done = !answered || !reply.failure.empty() ? Initialized{} : read_initialized(reply.line);
  if (done.version.empty() && !late.line.empty()) {
    if (Discovered found = read_discovered(late.line); found.modern && era_of(pick_version(found.versions)) == Era::Modern) {
      has_session_ = false;
      return begin_modern(found, deadline_ms);
    }
  }
  if (!answered) throw McpError(fmt::format("it did not answer initialize within {} ms", deadline_ms));
  if (!reply.failure.empty()) throw McpError(reply.failure);
  if (done.version.empty()) throw McpError("it answered initialize with " + done.why);
  if (pick_version({done.version}).empty() || era_of(done.version) != Era::Legacy)
    throw McpError(fmt::format("it answered initialize with version '{}', which has no such request or is unknown", cleaned(done.version, 50)));
  speech_.version = done.version;
  transport_.send(initialized_line());
  return {Era::Legacy, done.version, done.server};
}

void McpClient::resume(Era era, std::string version, std::uint64_t next_id) {
  speech_.era = era;
  speech_.version = std::move(version);
  has_session_ = era == Era::Legacy;
  next_id_ = std::max<std::uint64_t>(next_id, 1);
}

ToolList McpClient::list_tools(std::uint64_t deadline_ms) {
  tools_changed_ = false;
  ToolPages pages;
  std::string cursor;
  std::uint64_t end = options_.clock() + deadline_ms;
  do {
    std::uint64_t id = ask([&](std::uint64_t at) { return list_line(at, cursor, speech_); });
    std::uint64_t now = options_.clock();
    if (!wait_for(id, end > now ? end - now : 0, false)) {
      cancel(id, "deadline");
      throw McpError(fmt::format("it did not list its tools within {} ms", deadline_ms));
    }
    cursor = pages.add(take(id));
  } while (!cursor.empty());
  ToolList list = pages.take();
  for (const std::string& note : list.notes) options_.note(note);
  return list;
}

void McpClient::send_call(const McpCall& call) {
  if (call.id < next_id_) throw std::logic_error(fmt::format("request id {} was used before", call.id));
  Waiting waiting;
  std::string line;
  try {
    line = call_line(call, speech_);
  } catch (const BadArguments& error) {
    waiting.failure = fmt::format("The call was not made: {}.", error.what());
  }
  next_id_ = call.id + 1;
  waiting_[call.id] = waiting;
  answers_ = 0;
  if (!line.empty()) transport_.send(line);
}

void McpClient::adopt_call(std::uint64_t id) {
  waiting_[id];
  next_id_ = std::max(next_id_, id + 1);
}

CallOutcome McpClient::await(std::uint64_t id, std::uint64_t deadline_ms) {
  if (!waiting_.contains(id)) throw std::logic_error(fmt::format("request id {} waits for no reply", id));
  std::uint64_t began = options_.clock();
  if (!wait_for(id, deadline_ms, true)) {
    cancel(id, "deadline");
    CallOutcome outcome =
        failed_call(fmt::format("The call timed out after {} ms and was cancelled. What it has done until then may stay.", options_.clock() - began));
    outcome.timed_out = true;
    return outcome;
  }
  Waiting reply = std::move(waiting_[id]);
  waiting_.erase(id);
  return reply.failure.empty() ? read_call(reply.line, speech_.era) : failed_call(reply.failure);
}

CallOutcome McpClient::call(const McpCall& call, std::uint64_t deadline_ms) {
  send_call(call);
  return await(call.id, deadline_ms);
}

// Also in the modern era: over stdio there is no stream of the request to close.
void McpClient::cancel(std::uint64_t id, std::string_view reason) {
  auto at = waiting_.find(id);
  if (at == waiting_.end()) return;
  bool over = at->second.over();
  waiting_.erase(at);
  if (!over) transport_.send(cancelled_line(id, reason));
}

std::uint64_t McpClient::ask(const std::function<std::string(std::uint64_t)>& line) {
  std::uint64_t id = next_id_++;
  waiting_[id];
  answers_ = 0;
  transport_.send(line(id));
  return id;
}

std::string McpClient::take(std::uint64_t id) {
  Waiting reply = std::move(waiting_[id]);
  waiting_.erase(id);
  if (!reply.failure.empty()) throw McpError(reply.failure);
  return std::move(reply.line);
}

// The time is looked at after every line: a flood must not hide the deadline.
bool McpClient::wait_for(std::uint64_t id, std::uint64_t ms, bool extends) {
  const std::uint64_t began = options_.clock(), hardest = began + std::max(ms, kHardestDeadline);
  std::uint64_t end = began + ms;
  for (;;) {
    if (waiting_[id].over()) return true;
    std::uint64_t now = options_.clock();
    if (now >= end) return false;
    if (auto line = lines_.next()) {
      progressed_ = false;
      take_line(std::move(*line), id);
      if (extends && progressed_) end = std::min(now + ms, hardest);
    } else if (auto bytes = transport_.receive(end - now)) {
      lines_.add(*bytes);
    }
  }
}

void McpClient::take_line(McpLines::Line line, std::uint64_t awaited) {
  Heard heard = line.too_long ? TooMuch{fmt::format("a line of more than {} bytes", kLongestLine)} : hear(line.text);
  if (auto* reply = std::get_if<Reply>(&heard)) return take_reply(reply->id, std::move(line.text));
  if (auto* request = std::get_if<ServerRequest>(&heard)) return answer(*request);
  if (auto* progress = std::get_if<CallProgress>(&heard)) progressed_ = progress->id == awaited;
  if (std::holds_alternative<ToolsChanged>(heard)) tools_changed_ = true;
  if (auto* no_sense = std::get_if<Nonsense>(&heard)) return nonsense(no_sense->why, line.text);
  if (auto* too_much = std::get_if<TooMuch>(&heard)) {
    options_.note("the server sent " + too_much->why);
    waiting_[awaited].failure = fmt::format("The server answered with {}, which is not read.", too_much->why);
  }
}

void McpClient::take_reply(std::uint64_t id, std::string line) {
  auto at = waiting_.find(id);
  if (at == waiting_.end()) {
    // Of a call that was cancelled, or a second one.
    if (id < next_id_) return;
    return nonsense("an answer to nothing that was asked", line);
  }
  if (!at->second.over()) at->second.line = std::move(line);
}

void McpClient::answer(const ServerRequest& request) {
  if (!has_session_) return nonsense("a request, which no server of this version may make", request.method);
  if (++answers_ > kMostAnswers) return;
  transport_.send(request.method == "ping" ? pong_line(request.id) : refusal_line(request.id));
}

void McpClient::nonsense(const std::string& why, std::string_view line) {
  options_.note(fmt::format("the server sent {}: {}", why, cleaned(line)));
  if (++nonsense_ > kMostNonsense)
    throw ServerGone(fmt::format("given up after {} lines that made no sense, the last of them {}: {}", nonsense_, why, cleaned(line)));
}

}  // namespace runner::agent
