#include "runner/agent/toml.h"

// Hostile text breaks some of its assertions ("[.]" does). It would abort there, or with NDEBUG go on into undefined
// behaviour.
struct BrokenAssertion {};
[[noreturn]] static void break_off() { throw BrokenAssertion(); }
#undef NDEBUG
#define TOML_ASSERT(condition) ((condition) ? void() : break_off())
#define TOML_EXCEPTIONS 1
#define TOML_MAX_NESTED_VALUES 32
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored \
    "-Wterminate"  // some of them stand in noexcept functions: there it is an end, and a clean one
#include <toml++/toml.h>
#pragma GCC diagnostic pop

#include <algorithm>

#include "runner/agent/text.h"
#include "runner/config/yaml.h"

namespace runner::agent::toml {

namespace {

// toml++ 3.3 bounds brackets, but not a.b.c.d: half a million dots would be as many calls deep when its tree goes.
constexpr int kMostDots = 32;

Place place(const ::toml::source_position& at) { return {static_cast<int>(at.line), static_cast<int>(at.column)}; }

/// Reads only as much TOML as is needed to tell a dot of a key from a dot of a text.
class DotCounter {
 public:
  explicit DotCounter(std::string_view text) : text_(text) {}

  /// The line with too many dots in one key, or 0.
  int crowded_line() {
    int dots = 0;
    while (at_ < text_.size()) {
      char c = text_[at_];
      if (c == '"' || c == '\'') {
        skip_text(c);
        continue;
      }
      if (c == '#') {
        skip_to_newline();
        continue;
      }
      if (std::string_view("\n=,[]{}").find(c) != std::string_view::npos) dots = 0;
      if (c == '.' && ++dots > kMostDots) return line();
      ++at_;
    }
    return 0;
  }

 private:
  int line() const {
    return 1 + static_cast<int>(std::count(text_.begin(), text_.begin() + static_cast<long>(at_), '\n'));
  }

  void skip_to_newline() { at_ = std::min(text_.find('\n', at_), text_.size()); }

  void skip_text(char quote) {
    std::string three(3, quote);
    bool lines = text_.substr(at_, 3) == three;
    at_ += lines ? 3 : 1;
    while (at_ < text_.size()) {
      char c = text_[at_];
      if (c == '\\' && quote == '"') {
        at_ += 2;
      } else if (lines && text_.substr(at_, 3) == three) {
        at_ += 3;
        for (int more = 0; more < 2 && text_.substr(at_, 1) == three.substr(0, 1); ++more) ++at_;  // """a"""""
        return;
      } else if (!lines && (c == quote || c == '\n')) {
        at_ += c == quote;
        return;
      } else {
        ++at_;
      }
    }
  }

  std::string_view text_;
  std::size_t at_ = 0;
};

Value copy(const ::toml::node& node);

void copy_items(const ::toml::table& table, Value& to) {
  for (const auto& [key, node] : table) {
    to.items.push_back(copy(node));
    to.items.back().key = std::string(key.str());
    to.items.back().key_at = place(key.source().begin);
  }
  // toml++ sorts by name; mistakes are told in the order of the file.
  std::ranges::stable_sort(to.items, {}, &Value::key_at);
}

Value copy(const ::toml::node& node) {
  Value to;
  to.at = place(node.source().begin);
  if (const auto* table = node.as_table()) {
    to.kind = Value::Kind::Table;
    copy_items(*table, to);
  } else if (const auto* list = node.as_array()) {
    to.kind = Value::Kind::List;
    for (const ::toml::node& item : *list) to.items.push_back(copy(item));
  } else if (const auto* text = node.as_string()) {
    to.kind = Value::Kind::Text;
    to.text = text->get();
  } else if (const auto* whole = node.as_integer()) {
    to.kind = Value::Kind::Whole;
    to.whole = whole->get();
  } else if (const auto* real = node.as_floating_point()) {
    to.kind = Value::Kind::Real;
    to.real = real->get();
  } else if (const auto* truth = node.as_boolean()) {
    to.kind = Value::Kind::Truth;
    to.truth = truth->get();
  } else {
    to.kind = Value::Kind::Time;
  }
  return to;
}

// Which line breaks an assertion, when all of them do: what ends before it does not.
int broken_line(std::string_view text) {
  std::vector<std::size_t> ends;
  for (std::size_t at = 0; at < text.size(); ++at)
    if (text[at] == '\n' || at + 1 == text.size()) ends.push_back(at + 1);
  auto breaks = [&](std::size_t end) {
    try {
      (void)::toml::parse(text.substr(0, end));
    } catch (const BrokenAssertion&) {
      return true;
    } catch (const ::toml::parse_error&) {
    }
    return false;
  };
  auto first = std::ranges::partition_point(ends, [&](std::size_t end) { return !breaks(end); });
  return static_cast<int>(first - ends.begin()) + 1;
}

// "\u0000" in a text of TOML brings in what the file itself may not hold.
void check_escapes(const std::string& source, const Value& value, Diagnostics& wrong) {
  auto has_nul = [](const std::string& text) { return text.find('\0') != std::string::npos; };
  if (has_nul(value.key))
    wrong.add({source, value.key_at.line, value.key_at.column}, "an escape in this key stands for a NUL byte");
  if (has_nul(value.text))
    wrong.add({source, value.at.line, value.at.column}, "an escape in this text stands for a NUL byte");
  for (const Value& item : value.items) check_escapes(source, item, wrong);
}

}  // namespace

const Value* Value::find(std::string_view name) const {
  if (kind != Kind::Table) return nullptr;
  for (const Value& item : items)
    if (item.key == name) return &item;
  return nullptr;
}

std::string Value::shown() const {
  switch (kind) {
    case Kind::Text:
      return quote(text);
    case Kind::Whole:
      return fmt::format("{}", whole);
    case Kind::Real:
      return fmt::format("{}", real);
    case Kind::Truth:
      return truth ? "true" : "false";
    case Kind::Time:
      return "a date or a time";
    case Kind::List:
      return "a list";
    case Kind::Table:
      return "a table";
  }
  return {};
}

std::optional<Value> parse(const std::string& source, std::string_view text, Diagnostics& wrong) {
  if (text.starts_with("\xef\xbb\xbf")) text.remove_prefix(3);  // the byte order mark of Windows editors
  if (!check_text(source, text, wrong)) return std::nullopt;
  if (int line = DotCounter(text).crowded_line()) {
    wrong.add({source, line, 1}, "a key with more than {} dots", kMostDots);
    return std::nullopt;
  }
  try {
    Value root = copy(::toml::parse(text));
    std::size_t before = wrong.entries().size();
    check_escapes(source, root, wrong);
    if (wrong.entries().size() > before) return std::nullopt;
    return root;
  } catch (const ::toml::parse_error& error) {
    Place at = place(error.source().begin);
    wrong.add({source, at.line, at.column}, "this is not TOML: {}", error.description());
    return std::nullopt;
  } catch (const BrokenAssertion&) {
    wrong.add({source, broken_line(text), 1}, "this is not TOML: a key or a value cannot be made out in this line");
    return std::nullopt;
  }
}

}  // namespace runner::agent::toml
