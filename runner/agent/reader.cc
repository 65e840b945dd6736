#include "runner/agent/reader.h"

#include <fmt/format.h>

#include <utility>

#include "runner/agent/json_text.h"

namespace runner::agent {

namespace {

constexpr std::size_t kLargestBody = 8u << 20;

}  // namespace

CallIds::CallIds(const Request& request) : turn_(request.messages.size()) {
  for (const Message& message : request.messages)
    for (const Part& part : message.parts)
      if (const auto* call = std::get_if<ToolCall>(&part)) used_.insert(call->id);
}

std::string CallIds::take(const std::string& wanted) {
  if (!wanted.empty() && used_.insert(wanted).second) return wanted;
  for (;;) {
    std::string id = fmt::format("call_{}_{}", turn_, next_++);
    if (used_.insert(id).second) return id;
  }
}

Reader::Reader(TextSink text)
    : text_(text ? std::move(text) : [](std::string_view) {}), events_([this](const SseEvent& event) { if (!over()) take_event(event); }) {}

void Reader::feed(std::string_view bytes) {
  if (over()) return;
  std::string begun;
  if (form_ == Form::Unknown) {
    // No event begins with a brace, and no object without one. The content type is not asked: servers get it wrong.
    body_ += bytes;
    std::size_t first = body_.find_first_not_of(" \t\r\n\xEF\xBB\xBF");
    if (first == std::string::npos && body_.size() <= kLargestBody) return;
    form_ = first != std::string::npos && body_[first] == '{' ? Form::Body : Form::Events;
    begun = std::exchange(body_, {});
    bytes = begun;
  }
  if (form_ == Form::Body) {
    if (body_.size() + bytes.size() > kLargestBody) return fail(Trouble::Permanent, "the provider's answer is larger than 8 MiB");
    body_ += bytes;
  } else if (!events_.feed(bytes)) {
    fail(Trouble::Permanent, "the provider sent an event that is larger than 8 MiB");
  }
}

std::variant<Completion, Failure> Reader::finish() {
  if (form_ == Form::Body && !failure_) {
    std::size_t brace = body_.find('{');  // behind a byte order mark
    std::string json = body_.substr(brace);
    if (is_object(json)) take_body(json);
  }
  if (!decided()) return Failure{.trouble = Trouble::Transient, .reason = "the provider's answer ended before it was complete", .usage = usage_};
  if (!failure_) {
    auto result = this->result();
    if (auto* failure = std::get_if<Failure>(&result)) fail(std::move(*failure));
    else return result;
  }
  failure_->usage = usage_;
  return *failure_;
}

void Reader::fail(Trouble trouble, std::string reason) { fail(Failure{.trouble = trouble, .reason = std::move(reason)}); }

void Reader::fail(Failure failure) {
  if (!failure_) failure_ = std::move(failure);
}

}  // namespace runner::agent
