#include "runner/agent/sse.h"

#include <charconv>
#include <utility>

namespace runner::agent {

namespace {

constexpr std::string_view kByteOrderMark = "\xEF\xBB\xBF";

bool digits_only(std::string_view text) { return !text.empty() && text.find_first_not_of("0123456789") == std::string_view::npos; }

}  // namespace

bool SseParser::feed(std::string_view bytes) {
  while (!bytes.empty() && !too_large_) {
    // The LF of a CRLF may come in a later piece than its CR, which has ended the line already.
    if (std::exchange(after_cr_, false) && bytes.front() == '\n') {
      bytes.remove_prefix(1);
      continue;
    }
    std::size_t end = bytes.find_first_of("\r\n");
    std::string_view part = bytes.substr(0, end);
    if (line_.size() + data_.size() + part.size() > largest_) {
      too_large_ = true;
      line_ = data_ = {};
      break;
    }
    line_ += part;
    if (end == std::string_view::npos) break;
    after_cr_ = bytes[end] == '\r';
    bytes.remove_prefix(end + 1);
    end_of_line();
  }
  return !too_large_;
}

void SseParser::end_of_line() {
  std::string line = std::exchange(line_, {});
  std::string_view text = line;
  if (std::exchange(first_line_, false) && text.starts_with(kByteOrderMark)) text.remove_prefix(kByteOrderMark.size());
  if (text.empty()) return dispatch();
  std::size_t colon = text.find(':');
  if (colon == 0) return;  // a comment
  std::string_view value = colon == std::string_view::npos ? std::string_view() : text.substr(colon + 1);
  if (value.starts_with(' ')) value.remove_prefix(1);
  field(text.substr(0, colon), value);
}

void SseParser::field(std::string_view name, std::string_view value) {
  if (name == "data") {
    if (has_data_) data_ += '\n';
    has_data_ = true;
    data_ += value;
  } else if (name == "event") {
    type_ = value;
  } else if (name == "id") {
    if (value.find('\0') == std::string_view::npos) id_ = value;
  } else if (name == "retry" && digits_only(value)) {
    std::uint64_t milliseconds = 0;
    if (std::from_chars(value.data(), value.data() + value.size(), milliseconds).ec == std::errc()) retry_ = milliseconds;
  }
}

void SseParser::dispatch() {
  SseEvent event{std::exchange(type_, {}), std::exchange(data_, {}), id_};
  if (!std::exchange(has_data_, false)) return;
  if (event.type.empty()) event.type = "message";
  sink_(event);
}

}  // namespace runner::agent
