#include "runner/agent/mcp_lines.h"

namespace runner::agent {

void McpLines::add(std::string_view bytes) {
  if (skipping_) {
    std::size_t end = bytes.find('\n');
    if (end == std::string_view::npos) return;
    bytes.remove_prefix(end + 1);
    skipping_ = false;
  }
  waiting_.erase(0, at_);
  looked_ -= at_;
  at_ = 0;
  waiting_ += bytes;
}

std::optional<McpLines::Line> McpLines::next() {
  for (;;) {
    std::size_t end = waiting_.find('\n', looked_), begin = at_;
    if (end == std::string::npos) {
      looked_ = waiting_.size();
      if (looked_ - at_ <= kLongestLine) return std::nullopt;
      waiting_ = std::string();  // gives the memory back, which clear() does not
      at_ = looked_ = 0;
      skipping_ = true;
      return Line{{}, true};
    }
    at_ = looked_ = end + 1;
    if (end - begin > kLongestLine) return Line{{}, true};
    if (end > begin) return Line{waiting_.substr(begin, end - begin), false};
  }
}

}  // namespace runner::agent
