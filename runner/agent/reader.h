// What the readers of all providers have in common: a body comes in pieces, as events or, from a server that does not stream, as one JSON
// object, and at its end it amounts to a completion or to a failure.
#pragma once

#include <functional>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <variant>

#include "runner/agent/message.h"
#include "runner/agent/sse.h"

namespace runner::agent {

/// Ids of calls that no call of the conversation has yet: the results are matched by them, and a repeated one would be taken for a call
/// that ran already. Some servers give none, or begin to count anew with each answer.
class CallIds {
 public:
  explicit CallIds(const Request& request);
  std::string take(const std::string& wanted);  ///< the wanted one if it is free

 private:
  std::set<std::string> used_;
  std::size_t turn_;
  unsigned next_ = 0;
};

class Reader {
 public:
  /// `text` is called with each piece of text of the model.
  using TextSink = std::function<void(std::string_view text)>;

  explicit Reader(TextSink text);
  virtual ~Reader() = default;
  Reader(const Reader&) = delete;
  Reader& operator=(const Reader&) = delete;

  void feed(std::string_view bytes);

  /// The provider has said its last word: nothing that follows can change the result.
  bool over() const { return failure_ || last_word_; }
  /// The provider has ended its answer, or broken it off, by itself; what becomes of the connection does not matter any more.
  bool decided() const { return failure_ || ended_; }

  /// To be called once, when no more bytes come.
  std::variant<Completion, Failure> finish();

 protected:
  virtual void take_event(const SseEvent& event) = 0;
  virtual void take_body(const std::string& json) = 0;  ///< an object
  virtual std::variant<Completion, Failure> result() = 0;  ///< after ended()

  void tell(std::string_view text) { text_(text); }
  void fail(Trouble trouble, std::string reason);
  void fail(Failure failure);  ///< the first one counts
  void ended(bool last_word) { ended_ = true, last_word_ |= last_word; }

  Usage usage_;

 private:
  enum class Form { Unknown, Events, Body };

  TextSink text_;
  SseParser events_;
  Form form_ = Form::Unknown;
  std::string body_;  // the beginning while the form is unknown; then all of a body that is JSON
  std::optional<Failure> failure_;
  bool ended_ = false, last_word_ = false;
};

}  // namespace runner::agent
