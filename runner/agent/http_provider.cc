#include "runner/agent/http_provider.h"

#include <fmt/format.h>
#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <chrono>
#include <ctime>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>

#include "isolate/sys/error.h"
#include "runner/agent/anthropic.h"
#include "runner/agent/json_text.h"
#include "runner/agent/model/protocol.h"
#include "runner/agent/trouble.h"

namespace runner::agent {

namespace {

using nlohmann::json;
using Clock = std::chrono::steady_clock;

constexpr std::size_t kLargestFrame = 1u << 20;   // from runner-model, which passes on what one read gave
constexpr std::size_t kLargestError = 64u << 10;
constexpr std::uint64_t kLastWordMs = 1000;       // for the end of a body whose last word has been said
constexpr std::uint64_t kOverdueMs = 10'000;      // runner-model keeps the limits; this is for one that does not answer any more

// runner-model is of no use any more.
struct Dead {
  std::string why;
};

// The other end of the protocol, for one request.
class Exchange {
 public:
  Exchange(const HttpProvider::Setup& setup, Reader& reader, const Progress& progress) : setup_(setup), reader_(reader), progress_(progress) {}

  std::variant<Completion, Failure> run(const std::string& path, std::string_view body) {
    send(model::frame(model::kRequest, head(path)) + model::frame(model::kBody, body));
    began_ = Clock::now();
    while (!end_) {
      wait();
      receive();
      while (auto next = frames_.next()) take(*next);
      if (frames_.broken()) throw Dead{"it sent a frame that is too large"};
      if (reader_.over() && !over_at_) over_at_ = elapsed();
    }
    return outcome();
  }

 private:
  std::string head(const std::string& path) const {
    json headers = json::array({{"content-type", "application/json"}, {"accept", "text/event-stream, application/json"}});
    if (setup_.api == Api::Anthropic) headers.push_back({"anthropic-version", "2023-06-01"});
    json object{{"path", path}, {"headers", headers}, {"total_ms", setup_.total_ms}};
    object["first_byte_ms"] = setup_.first_byte_ms;
    object["idle_ms"] = setup_.idle_ms;
    return object.dump();
  }

  std::uint64_t elapsed() const {
    return static_cast<std::uint64_t>(std::chrono::duration_cast<std::chrono::milliseconds>(Clock::now() - began_).count());
  }

  void send(const std::string& bytes) {
    for (std::string_view left = bytes; !left.empty();) {
      ssize_t sent = ::send(setup_.socket.get(), left.data(), left.size(), MSG_NOSIGNAL);
      if (sent == -1 && errno == EINTR) continue;
      if (sent == -1) throw Dead{isolate::sys::error_text(errno)};
      left.remove_prefix(static_cast<std::size_t>(sent));
    }
  }

  void cancel() {
    if (!std::exchange(cancelled_, true)) send(model::frame(model::kCancel, ""));
  }

  // Until there is something to read. What makes the wait end otherwise ends the request, too.
  void wait() {
    for (;;) {
      std::uint64_t now = elapsed();
      std::uint64_t until = setup_.total_ms ? setup_.total_ms + kOverdueMs : ~std::uint64_t{0};
      if (over_at_ && !cancelled_) until = *over_at_ + kLastWordMs;
      if (cancelled_) until = cancelled_until_;
      if (now >= until) {
        if (cancelled_ || !over_at_) throw Dead{"it does not answer any more"};
        cancelled_until_ = now + kOverdueMs;
        cancel();
        continue;
      }
      pollfd look[] = {{setup_.socket.get(), POLLIN, 0}, {cancelled_ ? -1 : setup_.cancel_fd, POLLIN, 0}};
      int ready = ::poll(look, 2, static_cast<int>(std::min<std::uint64_t>(until - now, 60'000)));
      if (ready == -1 && errno != EINTR) isolate::sys::fail(errno, "wait for runner-model");
      if (ready > 0 && look[1].revents) {
        cancelled_until_ = now + kOverdueMs;
        cancel();
      }
      if (ready > 0 && look[0].revents) return;
    }
  }

  void receive() {
    char bytes[64 << 10];
    ssize_t got;
    do got = ::recv(setup_.socket.get(), bytes, sizeof bytes, 0);
    while (got == -1 && errno == EINTR);
    if (got == -1) throw Dead{isolate::sys::error_text(errno)};
    if (got == 0) throw Dead{"it has ended"};
    frames_.add({bytes, static_cast<std::size_t>(got)});
  }

  static json object_in(const std::string& payload) {
    json object = modest(payload) ? json::parse(payload, nullptr, false) : json();
    if (!object.is_object()) throw Dead{"it sent a frame that is not JSON"};
    return object;
  }

  void take(const model::Frame& frame) {
    if (end_) throw Dead{"it went on after the end of a request"};
    if (frame.kind == model::kData) {
      progress_.chunk(elapsed(), frame.payload);
      if (good()) reader_.feed(frame.payload);
      else error_.append(frame.payload, 0, kLargestError - std::min(kLargestError, error_.size()));
    } else if (frame.kind == model::kStatus) {
      json object = object_in(frame.payload);
      status_ = object.value("status", 0);
      json headers = object.value("headers", json::object());
      for (const auto& [name, value] : headers.items())
        if (value.is_string()) headers_.emplace_back(name, value.get<std::string>());
    } else if (frame.kind == model::kEnd) {
      end_ = object_in(frame.payload);
    } else {
      throw Dead{"it sent a frame of an unknown kind"};
    }
  }

  bool good() const { return status_ >= 200 && status_ < 300; }

  // What the provider has said counts for more than what has become of the connection.
  std::variant<Completion, Failure> outcome() {
    auto failed = [&](Failure failure) {
      failure.status = status_;
      return failure;
    };
    std::string kind = end_->value("class", "other");
    if (status_ != 0 && !good() && kind != "redirect" && kind != "cancelled") return http_trouble(status_, headers_, error_, std::time(nullptr));
    auto result = reader_.finish();
    if (std::holds_alternative<Completion>(result)) return result;
    Failure& failure = std::get<Failure>(result);
    if (reader_.decided() || end_->value("ok", false)) return failed(std::move(failure));
    Failure broken = transport_trouble(kind, end_->value("message", ""));
    broken.usage = failure.usage;
    return failed(std::move(broken));
  }

  const HttpProvider::Setup& setup_;
  Reader& reader_;
  const Progress& progress_;
  model::Frames frames_{kLargestFrame};
  Clock::time_point began_ = Clock::now();
  int status_ = 0;
  Headers headers_;
  std::string error_;  // the body of an answer that is none
  std::optional<json> end_;
  std::optional<std::uint64_t> over_at_;
  bool cancelled_ = false;
  std::uint64_t cancelled_until_ = 0;
};

// "v1", "v4", "v1beta"
bool is_version(std::string_view segment) { return segment.size() > 1 && segment[0] == 'v' && segment[1] >= '0' && segment[1] <= '9'; }

}  // namespace

std::string api_path(Api api, std::string_view base_url) {
  std::string_view rest = api == Api::Anthropic ? "/messages" : "/chat/completions";
  if (std::size_t scheme = base_url.find("://"); scheme != std::string_view::npos) {
    std::size_t slash = base_url.find_first_of("/?#", scheme + 3);
    base_url = slash == std::string_view::npos ? std::string_view() : base_url.substr(slash);
  }
  base_url = base_url.substr(0, base_url.find('#'));
  std::size_t question = std::min(base_url.find('?'), base_url.size());
  std::string query(base_url.substr(question)), path(base_url.substr(0, question));
  while (path.ends_with('/')) path.pop_back();
  if (!path.empty() && path[0] != '/') path.insert(0, "/");
  if (path.ends_with(rest)) return path + query;
  bool versioned = false;
  for (std::size_t at = 0; at != std::string::npos; at = path.find('/', at + 1))
    versioned = versioned || (at < path.size() && is_version(std::string_view(path).substr(at + 1, path.find('/', at + 1) - at - 1)));
  return fmt::format("{}{}{}{}", path, versioned ? "" : "/v1", rest, query);
}

HttpProvider::HttpProvider(Setup setup) : setup_(std::move(setup)), path_(api_path(setup_.api, setup_.base_url)) {}

std::variant<Completion, Failure> HttpProvider::generate(const Request& request, const Progress& progress) {
  auto result = attempt(request, progress);
  // Servers older than that name of the limit refuse it. That costs nothing, so it is no attempt.
  const auto* failure = std::get_if<Failure>(&result);
  bool unknown_limit = setup_.api == Api::OpenAi && limit_ == OpenAiLimit::MaxCompletionTokens && failure && failure->trouble == Trouble::Permanent &&
                       (failure->status == 400 || failure->status == 422) && failure->reason.find("max_completion_tokens") != std::string::npos;
  if (!unknown_limit) return result;
  limit_ = OpenAiLimit::MaxTokens;
  return attempt(request, progress);
}

std::variant<Completion, Failure> HttpProvider::attempt(const Request& request, const Progress& progress) {
  bool anthropic = setup_.api == Api::Anthropic;
  std::string body = anthropic ? anthropic_body(request) : openai_body(request, limit_);
  std::unique_ptr<Reader> reader;
  if (anthropic) reader = std::make_unique<AnthropicReader>(request, progress.text);
  else reader = std::make_unique<OpenAiReader>(request, progress.text);
  if (!setup_.socket) return Failure{.trouble = Trouble::Transient, .reason = "runner-model, which speaks to the provider, has ended"};
  if (body.size() > model::kLargestPayload) return Failure{.trouble = Trouble::Overflow, .reason = "the conversation is larger than 64 MiB"};
  std::string why;
  try {
    return Exchange(setup_, *reader, progress).run(path_, body);
  } catch (const Dead& dead) {
    why = dead.why;
  } catch (const json::exception&) {
    why = "it sent a frame that makes no sense";
  } catch (...) {
    setup_.socket.close();
    throw;
  }
  setup_.socket.close();  // whatever it still says is of this request, and would be taken for the next one's answer
  return Failure{.trouble = Trouble::Transient, .reason = "runner-model, which speaks to the provider, is of no use any more: " + why};
}

}  // namespace runner::agent
