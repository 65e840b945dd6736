// The tools that a server says it has.
#pragma once

#include <optional>
#include <set>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

#include "runner/agent/message.h"

namespace runner::agent {

/// A server that lives, but does not keep to a protocol that we speak.
struct McpError : std::runtime_error {
  using std::runtime_error::runtime_error;
};

struct ToolList {
  std::vector<ToolDefinition> tools;      // sorted by name; the keys of schemas are sorted too
  std::set<std::string> read_only_hints;  // tools that call themselves read-only: a hint of somebody who is not trusted
  std::vector<std::string> notes;         // what was left out, and why
};

constexpr std::size_t kMostPages = 100, kMostTools = 1000, kLongestToolList = 4u << 20;
constexpr int kDeepestSchema = 32;

/// Collects the pages. Throws McpError for what cannot be used at all.
class ToolPages {
 public:
  /// The line is a reply. Gives the cursor of the next page as JSON; empty after the last one.
  std::string add(std::string_view line);
  ToolList take();

 private:
  ToolList list_;
  std::set<std::string> names_, cursors_;
  std::size_t bytes_ = 0, pages_ = 0;
};

}  // namespace runner::agent
