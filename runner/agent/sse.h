// Server-sent events, by the rules of the WHATWG standard, from pieces that are cut anywhere.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>

namespace runner::agent {

struct SseEvent {
  std::string type;  // "message" where the server named none
  std::string data;
  std::string id;    // the last one that was told, of this event or an earlier one
};

class SseParser {
 public:
  using Sink = std::function<void(const SseEvent&)>;
  explicit SseParser(Sink sink, std::size_t largest = 8u << 20) : sink_(std::move(sink)), largest_(largest) {}

  /// False, from then on, when one event is larger than it may be: nothing more is read or kept.
  /// An event whose blank line has not come when the stream ends was never sent.
  bool feed(std::string_view bytes);

  std::uint64_t retry() const { return retry_; }  ///< milliseconds, as the server asks; 0: it did not

 private:
  void end_of_line();
  void field(std::string_view name, std::string_view value);
  void dispatch();

  Sink sink_;
  std::size_t largest_;
  std::string line_, data_, type_, id_;
  std::uint64_t retry_ = 0;
  bool first_line_ = true, after_cr_ = false, has_data_ = false, too_large_ = false;
};

}  // namespace runner::agent
