#include "runner/config/yaml.h"

#include <fcntl.h>
#include <unistd.h>
#include <yaml-cpp/emitterstyle.h>
#include <yaml-cpp/eventhandler.h>
#include <yaml-cpp/exceptions.h>
#include <yaml-cpp/mark.h>
#include <yaml-cpp/node/node.h>  // parser.h only names this class, and clang-tidy would take ours for it
#include <yaml-cpp/parser.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <map>
#include <sstream>
#include <utility>

#include "runner/config/utf8.h"

namespace runner {

namespace {

// Brackets are counted without regard to quotes and comments, so this is far above the depth that events are held to.
constexpr int kMostOpenBrackets = 256;
// Another encoding, or a file full of tabs: enough to see what is the matter.
constexpr std::size_t kMostBadLines = 8;
constexpr std::size_t kLongestQuote = 60;

// yaml-cpp looks at each character of a comment many times: half of the 0.2 ms that our policies took. Left out up to the first
// character that can begin a scalar of several lines, in which a # would be text.
std::string without_comments(std::string_view text) {
  std::string plain;
  while (!text.empty()) {
    bool comment = text[0] == '#' && (plain.empty() || plain.back() == ' ' || plain.back() == '\n');
    if (comment) text.remove_prefix(std::min(text.find('\n'), text.size()));
    else if (std::strchr("\"'|>", text[0])) break;
    else plain += text[0], text.remove_prefix(1);
  }
  return plain += text;
}

// Marks that make a text read otherwise than it is stored: a reviewer would see another policy than the parser.
bool changes_reading_order(char32_t c) {
  return c == 0x61c || c == 0x200e || c == 0x200f || (c >= 0x202a && c <= 0x202e) || (c >= 0x2066 && c <= 0x2069);
}

// Empty when the character may stand in a file. 0x04 is yaml-cpp's own mark for the end of the file. A lone carriage
// return, U+0085, U+2028 and U+2029 are line breaks to some YAML readers only.
std::string why_refused(char32_t c, bool followed_by_newline) {
  if (c == '\t') return "a tab; indent and separate with blanks";
  if (c == 0) return "a NUL byte";
  if (c == '\n' || (c == '\r' && followed_by_newline)) return {};
  if (c < 0x20 || (c >= 0x7f && c <= 0x9f) || c == 0x2028 || c == 0x2029 || c == 0xfeff || changes_reading_order(c))
    return fmt::format("the invisible control character U+{:04X}", static_cast<unsigned>(c));
  return {};
}

// yaml-cpp looks ahead over every open bracket before its first event, so that many are refused before it starts.
bool check_text(const std::string& source, std::string_view text, Diagnostics& wrong) {
  std::size_t bad_lines = 0;
  int open = 0, line = 1, column = 1, last_bad_line = 0;
  auto refuse = [&](std::string_view what) {
    wrong.add({source, line, column}, "{}", what);
    ++bad_lines;
    last_bad_line = line;
  };
  while (!text.empty() && bad_lines < kMostBadLines) {
    Character c = next_character(text);
    if (c.bytes == 0) {
      refuse("this byte is not UTF-8");
      return false;  // in another encoding nothing that follows is either
    }
    if (line != last_bad_line) {
      std::string why = why_refused(c.code, text.substr(0, 2) == "\r\n");
      if (!why.empty()) refuse(why);
    }
    if (c.code == '[' || c.code == '{') ++open;
    if ((c.code == ']' || c.code == '}') && open > 0) --open;
    if (open > kMostOpenBrackets) {
      refuse(fmt::format("more than {} brackets are open here", kMostOpenBrackets));
      return false;
    }
    column += static_cast<int>(c.bytes);
    if (c.code == '\n') ++line, column = 1;
    text.remove_prefix(c.bytes);
  }
  return bad_lines == 0;
}

// A directive (%YAML, %TAG) raises no event, and yaml-cpp ignores those it does not know.
bool check_directives(const std::string& source, std::string_view text, Diagnostics& wrong) {
  for (int line = 1; !text.empty(); ++line) {
    if (text[0] == '%') {
      wrong.add({source, line, 1}, "directives such as %YAML are not accepted; remove the line");
      return false;
    }
    std::size_t first = text.find_first_not_of(" \r");
    bool blank = first == std::string_view::npos || text[first] == '\n' || text[first] == '#';
    std::size_t end = text.find('\n');
    if (!blank || end == std::string_view::npos) break;
    text.remove_prefix(end + 1);
  }
  return true;
}

}  // namespace

/// Makes the tree from yaml-cpp's events. Its own document type would follow aliases and keep both of two equal keys.
class TreeBuilder : public YAML::EventHandler {
 public:
  struct Stop {};  // thrown through yaml-cpp: the mistake is in `wrong`, and reading on would be of no use

  TreeBuilder(const std::string& source, std::string_view text, int depth, Diagnostics& wrong)
      : source_(std::make_shared<const std::string>(source)), text_(text), depth_(depth), wrong_(wrong) {}

  Node take_root() { return root_ ? std::move(*root_) : Node(source_, Node::Kind::Nothing, 1, 1); }

  void OnDocumentStart(const YAML::Mark& mark) override {
    if (++documents_ == 1) return;
    wrong_.add(where(mark), "the document ended before this; a file holds one document");
    throw Stop{};
  }
  void OnDocumentEnd() override {}

  void OnNull(const YAML::Mark& mark, YAML::anchor_t anchor) override {
    check_properties(mark, "", anchor);
    put(make(mark, Node::Kind::Nothing));
  }
  void OnScalar(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                const std::string& value) override {
    check_properties(mark, tag, anchor);
    check_value(mark, value);
    Node node = make(mark, Node::Kind::Text);
    node.text_ = value;
    put(std::move(node));
  }
  void OnAlias(const YAML::Mark& mark, YAML::anchor_t) override {
    wrong_.add(where(mark), "aliases (*name) are not accepted; write the value out");
    put(std::nullopt);
  }

  void OnSequenceStart(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                       YAML::EmitterStyle::value) override {
    open(mark, tag, anchor, Node::Kind::List);
  }
  void OnSequenceEnd() override { close(); }
  void OnMapStart(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                  YAML::EmitterStyle::value) override {
    open(mark, tag, anchor, Node::Kind::Mapping);
  }
  void OnMapEnd() override { close(); }

 private:
  // A list or mapping that is not finished.
  struct Open {
    Node node;
    std::map<std::string, int> seen;  // keys, and the line of each
    bool has_key = false;             // the next value belongs to `key`
    std::optional<Node> key;          // nothing: the key was refused, and its value goes with it
  };

  Where where(const YAML::Mark& mark) const { return {*source_, mark.line + 1, mark.column + 1}; }
  Node make(const YAML::Mark& mark, Node::Kind kind) const {
    return Node(source_, kind, mark.line + 1, mark.column + 1);
  }

  // yaml-cpp gives plain text the tag "?" and quoted text "!". Others were written by the user, and so was a "!" that
  // stands where the value begins: yaml-cpp forgets some of those.
  void check_properties(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor) {
    std::size_t at = static_cast<std::size_t>(mark.pos);
    bool tagged = (tag != "" && tag != "?" && tag != "!") || (at < text_.size() && text_[at] == '!');
    // A mapping begins where its first key does: one tag there is seen twice.
    if (tagged && std::exchange(last_tag_, mark.pos) != mark.pos)
      wrong_.add(where(mark), "tags (!name) are not accepted; remove it");
    if (anchor != 0) wrong_.add(where(mark), "anchors (&name) are not accepted; remove it");
  }

  // Escapes in double quotes ("\0", "\u202e") must not bring in what the file itself may not hold. A tab may be had so.
  void check_value(const YAML::Mark& mark, std::string_view value) {
    for (Character c; !value.empty(); value.remove_prefix(c.bytes)) {
      c = next_character(value);
      std::string why = c.bytes == 0 ? "text that is not UTF-8" : c.code == '\t' ? "" : why_refused(c.code, false);
      if (why.empty()) continue;
      return wrong_.add(where(mark), "an escape in this text stands for {}", why);
    }
  }

  void open(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor, Node::Kind kind) {
    check_properties(mark, tag, anchor);
    if (static_cast<int>(open_.size()) == depth_) {
      wrong_.add(where(mark), "lists and mappings are more than {} deep here", depth_);
      throw Stop{};
    }
    open_.push_back({make(mark, kind), {}, false, {}});
  }

  void close() {
    Node node = std::move(open_.back().node);
    open_.pop_back();
    put(std::move(node));
  }

  // Where the value goes: into the list or mapping that is open. Nothing: it was refused, and leaves no trace.
  void put(std::optional<Node> value) {
    if (open_.empty()) {
      root_ = std::move(value);
      return;
    }
    Open& parent = open_.back();
    if (parent.node.kind_ == Node::Kind::List) {
      if (value) parent.node.items_.push_back(std::move(*value));
      return;
    }
    if (!parent.has_key) {
      parent.has_key = true;
      parent.key = accept_key(parent, std::move(value));
      return;
    }
    parent.has_key = false;
    if (!value || !parent.key) return;
    value->key_ = parent.key->text_;
    value->key_line_ = parent.key->line_;
    value->key_column_ = parent.key->column_;
    if (value->kind_ == Node::Kind::Nothing) {  // yaml-cpp places it at whatever comes next
      value->line_ = parent.key->line_;
      value->column_ = parent.key->column_;
    }
    parent.node.items_.push_back(std::move(*value));
  }

  std::optional<Node> accept_key(Open& parent, std::optional<Node> key) {
    if (!key) return std::nullopt;
    if (key->kind_ != Node::Kind::Text) {
      wrong_.add(key->where(), "a key must be text, not {}", key->shown());
      return std::nullopt;
    }
    auto [first, is_new] = parent.seen.emplace(key->text_, key->line_);
    if (is_new) return key;
    wrong_.add(key->where(), "key {} is given twice, first on line {}", quote(key->text_), first->second);
    return std::nullopt;
  }

  Node::Source source_;
  std::string_view text_;
  int depth_;
  Diagnostics& wrong_;
  int documents_ = 0;
  int last_tag_ = -1;       // its position, if it is reported
  std::vector<Open> open_;  // innermost last
  std::optional<Node> root_;
};

const Node* Node::find(std::string_view key) const {
  if (kind_ != Kind::Mapping) return nullptr;
  for (const Node& item : items_)
    if (item.key_ == key) return &item;
  return nullptr;
}

std::string Node::shown() const {
  switch (kind_) {
    case Kind::Nothing:
      return "nothing";
    case Kind::Text:
      return quote(text_);
    case Kind::List:
      return "a list";
    case Kind::Mapping:
      return "a mapping";
  }
  return {};
}

std::string quote(std::string_view text) {
  std::string result = "'";
  while (!text.empty()) {
    Character c = next_character(text);
    bool plain = c.bytes && (c.code == '\n' || why_refused(c.code, false).empty());
    if (result.size() > kLongestQuote) {
      result += "...";
      break;
    }
    if (c.code == '\n' && c.bytes)
      result += "\\n";
    else if (plain)
      result += text.substr(0, c.bytes);
    else
      result += fmt::format("\\x{:02x}", static_cast<unsigned char>(text[0]));
    text.remove_prefix(plain ? c.bytes : 1);
  }
  return result + "'";
}

std::optional<Node> parse_yaml(const std::string& source, std::string_view text, Diagnostics& wrong,
                               YamlLimits limits) {
  if (text.size() > limits.bytes) {
    wrong.add({source}, "larger than {} bytes", limits.bytes);
    return std::nullopt;
  }
  if (text.substr(0, 3) == "\xef\xbb\xbf") text.remove_prefix(3);  // the byte order mark of Windows editors
  if (!check_text(source, text, wrong) || !check_directives(source, text, wrong)) return std::nullopt;

  TreeBuilder tree(source, text, limits.depth, wrong);
  try {
    std::istringstream stream{without_comments(text)};
    YAML::Parser parser(stream);
    // Never more than twice: yaml-cpp finds documents without end where a stray comma is all that is left.
    if (parser.HandleNextDocument(tree)) parser.HandleNextDocument(tree);
  } catch (const TreeBuilder::Stop&) {
    return std::nullopt;
  } catch (const YAML::Exception& error) {
    wrong.add({source, error.mark.line + 1, error.mark.column + 1}, "this is not YAML: {}", error.msg);
    return std::nullopt;
  }
  return tree.take_root();
}

std::optional<Node> load_yaml(const std::string& path, Diagnostics& wrong, YamlLimits limits) {
  auto fail = [&](const char* what) {
    wrong.add({path}, "cannot be {}: {}", what, std::strerror(errno));
    return std::nullopt;
  };
  int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOCTTY);
  if (fd == -1) return fail("opened");

  std::string text(limits.bytes + 1, '\0');  // one byte more shows that there is more
  std::size_t length = 0;
  ssize_t count = 0;
  do {
    count = ::read(fd, text.data() + length, text.size() - length);
    if (count > 0) length += static_cast<std::size_t>(count);
  } while (count > 0 || (count == -1 && errno == EINTR));
  int error = errno;
  ::close(fd);
  errno = error;
  if (count == -1) return fail("read");
  text.resize(length);
  return parse_yaml(path, text, wrong, limits);
}

}  // namespace runner
