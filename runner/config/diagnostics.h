// What is wrong with a user's input, all of it, and where.
#pragma once

#include <fmt/format.h>

#include <string>
#include <utility>
#include <vector>

namespace runner {

/// A place in a file, or the name of a flag. Lines and columns count from 1; 0 is unknown.
struct Where {
  std::string source;
  int line = 0, column = 0;
};

/// A user's mistakes are entries here, never exceptions: the user sees them all at once.
class Diagnostics {
 public:
  template <typename... Args>
  void add(const Where& where, fmt::format_string<const Args&...> text, const Args&... args) {
    entries_.push_back(place(where) + fmt::format(text, args...));
  }
  bool empty() const { return entries_.empty(); }
  const std::vector<std::string>& entries() const { return entries_; }
  std::string first() const { return entries_.empty() ? std::string() : entries_.front(); }
  std::string text() const { return fmt::format("{}", fmt::join(entries_, "\n")); }

 private:
  // "agent.yaml:14:11: " or "--memory: "
  static std::string place(const Where& where) {
    if (where.source.empty()) return {};
    if (where.line == 0) return where.source + ": ";
    return fmt::format("{}:{}:{}: ", where.source, where.line, where.column);
  }
  std::vector<std::string> entries_;
};

}  // namespace runner
