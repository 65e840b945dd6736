// What a server says, cut into lines, whatever it says.
#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>

namespace runner::agent {

constexpr std::size_t kLongestLine = 8u << 20;  // bytes

class McpLines {
 public:
  struct Line {
    std::string text;
    bool too_long = false;  // then there is no text
  };

  void add(std::string_view bytes);
  /// The next line that is not empty. One that is too long is told as soon as that is known, and the rest of it is dropped as it comes.
  std::optional<Line> next();

 private:
  std::string waiting_;
  std::size_t at_ = 0, looked_ = 0;  // up to where lines were taken, and a newline was looked for
  bool skipping_ = false;            // the rest of a line that is too long
};

}  // namespace runner::agent
