#include "runner/agent/fields.h"

#include <algorithm>
#include <map>

#include "runner/config/policy_settings.h"
#include "runner/config/units.h"
#include "runner/config/yaml.h"

namespace runner::agent {

using Kind = toml::Value::Kind;

void Mistakes::tell(Diagnostics& wrong) {
  std::ranges::stable_sort(list_, {}, [](const auto& mistake) { return mistake.first; });
  for (const auto& [at, text] : list_) wrong.add({source_, at.line, at.column}, "{}", text);
}

std::vector<std::string> texts(const std::vector<Listed>& list) {
  std::vector<std::string> result;
  for (const Listed& entry : list) result.push_back(entry.text);
  return result;
}

const toml::Value* Fields::find(std::string_view key, std::string_view other) {
  asked_.emplace_back(key);
  const toml::Value* value = table_.find(key);
  if (other.empty()) return value;

  asked_.emplace_back(other);
  const toml::Value* second = table_.find(other);
  if (value && second)
    wrong_.add(std::max(value->key_at, second->key_at), "{} and {} are two spellings of one key{}; remove one", key,
               other, in());
  return value ? value : second;
}

const toml::Value* Fields::find_table(std::string_view key) {
  const toml::Value* value = find(key);
  if (!value || value->is(Kind::Table)) return value;
  wrong_.add(value->at, "{}{} must be a table, not {}", key, in(), value->shown());
  return nullptr;
}

bool Fields::text(std::string_view key, std::string& to) {
  const toml::Value* value = find(key);
  if (!value) return false;
  if (!value->is(Kind::Text)) return wrong_.add(value->at, "{} must be text, not {}", key, value->shown()), false;
  to = value->text;
  return true;
}

bool Fields::whole(std::string_view key, std::uint64_t& to, std::uint64_t least, std::uint64_t most,
                   std::string_view other) {
  const toml::Value* value = find(key, other);
  if (!value) return false;
  bool fits = value->is(Kind::Whole) && value->whole >= 0 && static_cast<std::uint64_t>(value->whole) >= least &&
              static_cast<std::uint64_t>(value->whole) <= most;
  if (!fits) {
    std::string range =
        least == most ? fmt::format("{}", most) : fmt::format("a whole number from {} to {}", least, most);
    wrong_.add(value->at, "{} must be {}, not {}", value->key, range, value->shown());
    return false;
  }
  to = static_cast<std::uint64_t>(value->whole);
  return true;
}

bool Fields::duration(std::string_view key, std::uint64_t& to, std::uint64_t longest) {
  const toml::Value* value = find(key);
  if (!value) return false;
  std::optional<std::uint64_t> time;
  // "300" would be seconds on the command line, and milliseconds without its quotes.
  if (value->is(Kind::Text) && !parse_whole(value->text)) time = parse_duration(value->text);
  if (value->is(Kind::Whole) && value->whole > 0) time = static_cast<std::uint64_t>(value->whole);
  if (!time || *time == 0) {
    wrong_.add(value->at, "{} must be a time such as \"5m\", or a number of milliseconds, not {}", key, value->shown());
    return false;
  }
  if (*time > longest) {
    wrong_.add(value->at, "{} {} is too long; the most is {}", key, value->shown(), format_duration(longest));
    return false;
  }
  to = *time;
  return true;
}

bool Fields::choice(std::string_view key, std::span<const std::string_view> words, std::size_t& to) {
  const toml::Value* value = find(key);
  if (!value) return false;
  auto found = std::ranges::find(words, value->is(Kind::Text) ? std::string_view(value->text) : std::string_view());
  if (found == words.end()) {
    wrong_.add(value->at, "{} must be one of {}, not {}", key, fmt::join(words, ", "), value->shown());
    return false;
  }
  to = static_cast<std::size_t>(found - words.begin());
  return true;
}

bool Fields::list(std::string_view key, std::vector<Listed>& to, bool once) {
  const toml::Value* value = find(key);
  if (!value) return false;
  if (!value->is(Kind::List)) {
    wrong_.add(value->at, "{} must be a list of texts, not {}", key, value->shown());
    return false;
  }
  bool good = true;
  std::map<std::string, int> lines;
  std::vector<Listed> list;
  for (const toml::Value& item : value->items) {
    if (!item.is(Kind::Text)) {
      wrong_.add(item.at, "{} must hold texts only, not {}", key, item.shown());
      good = false;
      continue;
    }
    auto [first, is_new] = lines.emplace(item.text, item.at.line);
    if (once && !is_new) {
      wrong_.add(item.at, "{} is in {} twice, first on line {}", quote(item.text), key, first->second);
      good = false;
      continue;
    }
    list.push_back({item.text, item.at});
  }
  to = std::move(list);  // also what is left of a bad one: there may be more to say about it
  return good;
}

void Fields::end() {
  for (const toml::Value& item : table_.items) {
    if (std::ranges::find(asked_, item.key) != asked_.end()) continue;
    if (auto meant = nearest(item.key, asked_))
      wrong_.add(item.key_at, "unknown key {}{}, did you mean '{}'?", quote(item.key), in(), *meant);
    else
      wrong_.add(item.key_at, "unknown key {}{}", quote(item.key), in());
  }
}

}  // namespace runner::agent
