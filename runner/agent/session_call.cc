#include "runner/agent/session_call.h"

#include <fmt/format.h>
#include <poll.h>
#include <nettle/base64.h>

#include <algorithm>
#include <chrono>
#include <limits>
#include <nlohmann/json.hpp>

#include "isolate/init/protocol.h"
#include "isolate/link.h"
#include "isolate/sys/error.h"
#include "runner/supervise/calls.h"

namespace runner::agent {

using namespace isolate::sys;
using isolate::init::Frame;
using isolate::init::Kind;
using supervise::Clock;

namespace {

constexpr std::size_t kLastWords = 2000;        // bytes of stderr that are kept for messages
constexpr std::uint64_t kPatience = 10'000;     // milliseconds in which a supervisor must have room for input

[[noreturn]] void gone(const std::string& why, const std::string& last_words) {
  throw ServerGone(last_words.empty() ? why : fmt::format("{}; its stderr ended with: {}", why, last_words));
}

std::string sentence_of(const Frame& failed) {
  std::vector<std::string> fields(1);
  for (char c : failed.bytes)
    if (c == '\0') fields.emplace_back();
    else fields.back() += c;
  return fields.size() > 2 && !fields[2].empty() ? fields[2] : error_text(static_cast<int>(failed.offset));
}

}  // namespace

SessionCall SessionCall::start(Fd connection, const supervise::CallWish& wish) {
  SessionCall call(std::move(connection));
  std::string text = supervise::to_json(wish);
  if (text.size() > isolate::init::kLargestPiece) fail(E2BIG, "run a command of {} bytes in a session (arguments and environment)", text.size());
  isolate::init::send_frame(call.connection_.get(), {Kind::Spawn, 0, 0, 0, {}, {}}, text);
  auto answer = isolate::init::receive_frame(call.connection_.get());
  if (!answer) throw ServerGone("the session has ended");
  if (answer->kind == Kind::Failed) throw std::runtime_error(sentence_of(*answer));
  return call;
}

std::optional<SessionCall> SessionCall::attach(Fd connection, const std::string& name) {
  SessionCall call(std::move(connection));
  isolate::init::send_frame(call.connection_.get(), {Kind::Replay, 0, 0, std::numeric_limits<std::uint64_t>::max(), {}, {}}, name);
  auto answer = isolate::init::receive_frame(call.connection_.get());
  if (!answer) throw ServerGone("the session has ended");
  if (answer->kind != Kind::Started) return std::nullopt;
  call.input_ = answer->offset;
  return call;
}

void SessionCall::send(std::string_view bytes) {
  Clock::time_point began = Clock::now();
  while (!bytes.empty()) {
    std::string_view piece = bytes.substr(0, isolate::init::kLargestPiece);
    try {
      if (isolate::init::send_frame(connection_.get(), {Kind::Input, 0, 0, 0, {}, {}}, piece, {}, true)) {
        bytes.remove_prefix(piece.size());
        input_ += piece.size();
        continue;
      }
    } catch (const SystemError&) {
      gone("the session has ended", last_words_);
    }
    int left = supervise::milliseconds_left(began, kPatience);
    if (left == 0) gone("it does not read what it is told", last_words_);
    pollfd room{connection_.get(), POLLOUT, 0};
    (void)::poll(&room, 1, left);
  }
}

std::optional<SessionCall::Piece> SessionCall::next(std::uint64_t wait_ms) {
  Clock::time_point began = Clock::now();
  for (;;) {
    pollfd ready{connection_.get(), POLLIN, 0};
    int got = ::poll(&ready, 1, wait_ms ? supervise::milliseconds_left(began, wait_ms) : 0);
    if (got == -1 && errno != EINTR) fail(errno, "wait for a call of the session");
    if (got <= 0) {
      if (!wait_ms || supervise::milliseconds_left(began, wait_ms) == 0) return std::nullopt;
      continue;
    }
    std::optional<Frame> frame;
    try {
      frame = isolate::init::receive_frame(connection_.get());
    } catch (const SystemError&) {
    }
    if (!frame) gone("the session has ended", last_words_);
    if (frame->kind == Kind::Exited) ended_ = true;
    if (frame->kind == Kind::Exited) return Piece{0, 0, frame->bytes, static_cast<int>(frame->offset)};
    if (frame->kind == Kind::Failed) gone(sentence_of(*frame), last_words_);
    if (frame->kind != Kind::Output) continue;
    if (frame->stream == 2) {
      last_words_ += frame->bytes;
      if (last_words_.size() > kLastWords) last_words_.erase(0, last_words_.size() - kLastWords);
    }
    return Piece{frame->stream, frame->offset, std::move(frame->bytes), 0};
  }
}

std::optional<SessionCall::Piece> SessionCall::next_output(std::uint64_t wait_ms) {
  Clock::time_point began = Clock::now();
  for (;;) {
    std::uint64_t left = wait_ms ? static_cast<std::uint64_t>(supervise::milliseconds_left(began, wait_ms)) : 0;
    auto piece = next(left);
    if (!piece) return std::nullopt;
    if (piece->stream == 1 || piece->stream == isolate::init::kChannelStream) return piece;
    if (piece->stream == 0) {
      auto exited = nlohmann::json::parse(piece->bytes, nullptr, false);
      std::string how = exited.is_object() ? exited.value("reason", "") : "";
      gone(how.empty() ? "it has ended" : "it has ended: " + how, last_words_);
    }
    if (wait_ms && supervise::milliseconds_left(began, wait_ms) == 0) return std::nullopt;
  }
}

void SessionCall::end(std::uint64_t wait_ms) {
  if (ended_) return;
  kill();
  try {
    for (Clock::time_point began = Clock::now(); !ended_ && supervise::milliseconds_left(began, wait_ms) > 0;) (void)next(100);
  } catch (const std::exception&) {
  }
}

void SessionCall::kill() {
  try {
    isolate::init::send_frame(connection_.get(), {Kind::Forget, 0, 0, 0, {}, {}}, {});
  } catch (const SystemError&) {
  }
}

namespace {

// The bytes of a stdio event.
std::string bytes_of(const nlohmann::json& data) {
  if (data.contains("text")) return data.at("text");
  std::string text = data.value("base64", ""), bytes(BASE64_DECODE_LENGTH(text.size()) + 1, '\0');
  base64_decode_ctx decoder;
  base64_decode_init(&decoder);
  std::size_t size = bytes.size();
  if (!base64_decode_update(&decoder, &size, reinterpret_cast<std::uint8_t*>(bytes.data()), text.size(), text.data())) size = 0;
  bytes.resize(size);
  return bytes;
}

}  // namespace

std::optional<LoggedCall> find_in_log(const Fd& log, const std::string& call, bool* whole) {
  std::optional<LoggedCall> found;
  std::string text;
  char block[65536];
  for (off_t at = 0;;) {
    ssize_t got = check(::pread(log.get(), block, sizeof block, at), "read the session's log");
    if (got == 0) return found;
    at += got;
    text.append(block, static_cast<std::size_t>(got));
    for (std::size_t end; (end = text.find('\n')) != std::string::npos; text.erase(0, end + 1)) {
      std::string_view line = std::string_view(text).substr(0, end);
      if (whole) *std::exchange(whole, nullptr) = line.find(R"("sequence":"00000000000001")") != std::string_view::npos;
      if (line.find('"' + call + '"') == std::string_view::npos) continue;  // most lines are of others
      auto event = nlohmann::json::parse(line, nullptr, false);
      if (!event.is_object() || !event.contains("data") || event["data"].value("call", "") != call) continue;
      std::string type = event.value("type", "");
      if (!found) found.emplace();
      if (type == "process.exited") found->exited = event["data"].dump();
      if (type != "stdio") continue;
      LoggedStream& stream = event["data"].value("stream", "") == "stderr" ? found->err : found->out;
      if (stream.bytes.empty()) stream.from = event["data"].value("offset", std::uint64_t{0});
      stream.bytes += bytes_of(event["data"]);
    }
  }
}

}  // namespace runner::agent
