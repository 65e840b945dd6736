// YAML, as much of it as a policy or an expert file needs: text, lists and mappings, each with its place in the file.
// What makes one file mean two things is refused with its place: anchors, aliases, tags, duplicate keys, a second
// document, tabs, control and bidirectional characters, text that is not UTF-8. Only yaml.cc knows yaml-cpp.
#pragma once

#include <cstddef>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "runner/config/diagnostics.h"

namespace runner {

/// One value. Columns count bytes, as yaml-cpp and vim do.
class Node {
 public:
  enum class Kind { Nothing, Text, List, Mapping };

  Kind kind() const { return kind_; }
  Where where() const { return {*source_, line_, column_}; }

  /// Empty unless this is text: what is read from it then fails, and `shown` tells the user why.
  const std::string& text() const { return text_; }
  /// Of a list or a mapping, in the order of the file.
  const std::vector<Node>& items() const { return items_; }

  /// What this value is called, if it is in a mapping.
  const std::string& key() const { return key_; }
  Where key_where() const { return {*source_, key_line_, key_column_}; }

  /// The value of that key in this mapping, or nullptr.
  const Node* find(std::string_view key) const;

  /// For messages: "'lots'", "nothing", "a list", "a mapping".
  std::string shown() const;

 private:
  friend class TreeBuilder;
  using Source = std::shared_ptr<const std::string>;
  Node(Source source, Kind kind, int line, int column)
      : source_(std::move(source)), kind_(kind), line_(line), column_(column) {}

  Source source_;
  Kind kind_;
  int line_, column_;
  int key_line_ = 0, key_column_ = 0;
  std::string text_, key_;
  std::vector<Node> items_;
};

struct YamlLimits {
  std::size_t bytes = 65'536;
  int depth = 16;  // lists and mappings inside one another
};

/// Nothing when there is no tree to speak of. A tree may come with mistakes too (a duplicate key, say), so that the
/// caller can add those it finds: the file is good only if `wrong` has not grown. `source` names the text in messages.
std::optional<Node> parse_yaml(const std::string& source, std::string_view text, Diagnostics& wrong,
                               YamlLimits limits = {});

/// The same for a file, of which no more is read than the limit.
std::optional<Node> load_yaml(const std::string& path, Diagnostics& wrong, YamlLimits limits = {});

/// A user's text in a message: in quotes, on one line, and not longer than a line.
std::string quote(std::string_view text);

}  // namespace runner
