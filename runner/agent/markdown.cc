#include "runner/agent/markdown.h"

#include <algorithm>
#include <array>
#include <filesystem>
#include <map>
#include <vector>

#include "runner/agent/builtin.h"
#include "runner/agent/fields.h"
#include "runner/agent/text.h"
#include "runner/config/policy_settings.h"
#include "runner/config/yaml.h"

namespace fs = std::filesystem;

namespace runner::agent {

namespace {

constexpr std::string_view kFence = "---";
constexpr std::size_t kMostFiles = 256;

struct Mapped {
  std::string_view theirs;
  std::vector<std::string> ours;
};

const std::vector<Mapped>& mapped_tools() {
  static const std::vector<Mapped> kMapped = {
      {"Read", {"read_file"}},
      {"Write", {"write_file", "append_file", "make_dir"}},
      {"Edit", {"edit_file"}},
      {"MultiEdit", {"edit_file"}},
      {"Bash", {"exec"}},
      {"LS", {"list_dir", "stat"}},
      {"Glob", {"list_dir", "stat"}},
      {"Grep", {"list_dir", "stat", "read_file"}},
      {"TodoWrite", {"todo"}},
      {"TodoRead", {"todo"}},
  };
  return kMapped;
}

constexpr std::array<std::string_view, 10> kNoCounterpart = {"Task",         "WebFetch",    "WebSearch", "NotebookRead",
                                                             "NotebookEdit", "BashOutput",  "KillShell", "KillBash",
                                                             "ExitPlanMode", "SlashCommand"};

// A value with the place where it begins.
struct Entry {
  std::string value;
  toml::Place key_at, at;
};

/// The front matter, line by line.
class FrontMatter {
 public:
  FrontMatter(std::string_view text, Mistakes& wrong) : rest_(text), wrong_(wrong) {}

  /// False when the file does not begin with one, or it does not end.
  bool read() {
    if (next_line() != kFence)
      return wrong_.add({1, 1}, "the file must begin with a line of ---, and then 'name: NAME'"), false;
    while (!rest_.empty()) {
      std::string_view line = next_line();
      if (line == kFence) return true;
      read_line(line);
    }
    wrong_.add({1, 1}, "the front matter has no second line of ---");
    return false;
  }
  std::string_view body() const { return rest_; }
  int body_line() const { return line_ + 1; }

  const Entry* find(const std::string& key) {
    asked_.push_back(key);
    auto found = entries_.find(key);
    return found == entries_.end() ? nullptr : &found->second;
  }
  void refuse_others() {
    for (const auto& [key, entry] : entries_) {
      if (std::ranges::find(asked_, key) != asked_.end()) continue;
      if (auto meant = nearest(key, asked_))
        wrong_.add(entry.key_at, "unknown key {}, did you mean '{}'?", quote(key), *meant);
      else
        wrong_.add(entry.key_at, "unknown key {}", quote(key));
    }
  }

 private:
  toml::Place at(std::size_t column) const { return {line_, static_cast<int>(column) + 1}; }

  std::string_view next_line() {
    ++line_;
    std::size_t end = std::min(rest_.find('\n'), rest_.size());
    std::string_view line = rest_.substr(0, end);
    rest_.remove_prefix(std::min(end + 1, rest_.size()));
    std::size_t last = line.find_last_not_of(" \t\r");
    return line.substr(0, last == std::string_view::npos ? 0 : last + 1);
  }

  void read_line(std::string_view line) {
    if (line.empty()) return;
    std::size_t colon = line.find(':');
    if (line[0] == ' ' || line[0] == '\t' || line[0] == '-' || line[0] == '#' || colon == std::string_view::npos ||
        colon == 0)
      return wrong_.add(at(0),
                        "a line of the front matter is 'key: value', not {}; lists, comments and values of several "
                        "lines are not accepted",
                        quote(line));
    std::string key(line.substr(0, colon));
    std::size_t begin = line.find_first_not_of(" \t", colon + 1);
    if (begin == colon + 1) return wrong_.add(at(colon), "a blank must follow the ':' of {}", quote(key));

    Entry entry{{}, at(0), at(begin == std::string_view::npos ? line.size() : begin)};
    if (begin != std::string_view::npos && !read_value(line, begin, entry.value)) return;
    auto [first, is_new] = entries_.emplace(key, entry);
    if (!is_new)
      wrong_.add(entry.key_at, "key {} is given twice, first on line {}", quote(key), first->second.key_at.line);
  }

  bool read_value(std::string_view line, std::size_t begin, std::string& to) {
    char c = line[begin];
    if (c == '"' || c == '\'') return read_quoted(line, begin, to);
    // What these would begin or be in YAML is not what the line shows.
    if (std::string_view("[]{}&*!|>%@`#?,").find(c) != std::string_view::npos || line.substr(begin).starts_with("- "))
      return wrong_.add(at(begin), "a value may not begin with '{}'; write plain text, or put it in quotes", c), false;
    if (std::size_t comment = line.find(" #", begin); comment != std::string_view::npos)
      return wrong_.add(at(comment + 1), "'#' would begin a comment here; put the value in quotes"), false;
    to = std::string(line.substr(begin));
    return true;
  }

  bool read_quoted(std::string_view line, std::size_t begin, std::string& to) {
    char quote = line[begin];
    for (std::size_t i = begin + 1; i < line.size(); ++i) {
      char c = line[i];
      if (c == quote && quote == '\'' && line.substr(i, 2) == "''") {
        to += '\'', ++i;
      } else if (c == quote) {
        if (i + 1 == line.size()) return true;
        return wrong_.add(at(i + 1), "nothing may follow the quote that ends a value"), false;
      } else if (c == '\\' && quote == '"') {
        constexpr std::string_view kEscapes = "\"\\nt", kMeant = "\"\\\n\t";
        std::size_t which = i + 1 < line.size() ? kEscapes.find(line[i + 1]) : std::string_view::npos;
        if (which == std::string_view::npos)
          return wrong_.add(at(i), "an escape here is one of \\\" \\\\ \\n \\t"), false;
        to += kMeant[which], ++i;
      } else {
        to += c;
      }
    }
    return wrong_.add(at(begin), "the quote that begins here does not end on its line"), false;
  }

  std::string_view rest_;
  Mistakes& wrong_;
  int line_ = 0;
  std::map<std::string, Entry> entries_;
  std::vector<std::string> asked_;
};

std::string_view trimmed(std::string_view text) {
  std::size_t begin = text.find_first_not_of(" \t\r\n"), end = text.find_last_not_of(" \t\r\n");
  return begin == std::string_view::npos ? std::string_view() : text.substr(begin, end - begin + 1);
}

void add_tool(std::string_view name, toml::Place at, std::vector<std::string>& to, Mistakes& wrong) {
  std::vector<std::string> ours;
  for (const Mapped& tool : mapped_tools())
    if (tool.theirs == name) ours = tool.ours;
  if (is_builtin(name)) ours = {std::string(name)};
  if (ours.empty()) {
    bool known = std::ranges::find(kNoCounterpart, name) != kNoCounterpart.end() || name.starts_with("mcp__");
    if (name.empty()) return wrong.add(at, "tools must be names with commas between them, such as Read, Bash");
    if (known) return wrong.add(at, "the tool {} has no counterpart here; remove it", quote(name));
    std::vector<std::string> candidates = builtin_names();
    for (const Mapped& tool : mapped_tools()) candidates.emplace_back(tool.theirs);
    if (auto meant = nearest(name, candidates))
      return wrong.add(at, "unknown tool {}, did you mean '{}'?", quote(name), *meant);
    return wrong.add(at, "unknown tool {}; there are {}", quote(name), fmt::join(candidates, ", "));
  }
  for (std::string& tool : ours)
    if (std::ranges::find(to, tool) == to.end()) to.push_back(std::move(tool));
}

std::vector<std::string> read_tools(const Entry& entry, Mistakes& wrong) {
  std::vector<std::string> tools;
  std::string_view rest = entry.value;
  for (bool more = true; more;) {
    std::size_t comma = rest.find(',');
    more = comma != std::string_view::npos;
    add_tool(trimmed(rest.substr(0, comma)), entry.at, tools, wrong);
    if (more) rest.remove_prefix(comma + 1);
  }
  return tools;
}

Expert read_expert(FrontMatter& front, Mistakes& wrong) {
  Expert expert;
  auto require = [&](const char* key, std::string& to) -> const Entry* {
    const Entry* entry = front.find(key);
    if (!entry) return wrong.add({1, 1}, "the front matter has no {}", key), nullptr;
    to = entry->value;
    if (!entry->value.empty()) return entry;
    return wrong.add(entry->at, "{} is empty", key), nullptr;
  };
  const Entry* name = require("name", expert.name);
  if (name && !is_name(expert.name))
    wrong.add(name->at, "{} cannot be the name of an expert; 1 to 64 letters, digits, '-' and '_' can",
              quote(expert.name));
  require("description", expert.description);
  if (const Entry* tools = front.find("tools")) expert.tools = read_tools(*tools, wrong);
  if (const Entry* model = front.find("model")) {
    if (model->value.empty() || model->value.find_first_of(" \t\n") != std::string::npos)
      wrong.add(model->at, "model must be inherit or the name of a model, not {}", quote(model->value));
    if (model->value != "inherit") expert.model = model->value;
  }
  front.find("color");
  front.refuse_others();

  expert.instruction = std::string(trimmed(front.body()));
  toml::Place body{front.body_line(), 1};
  if (expert.instruction.empty()) wrong.add(body, "there is no instruction behind the front matter");
  if (expert.instruction.size() > kLongestInstruction)
    wrong.add(body, "the instruction has {} bytes; the most is {}", expert.instruction.size(), kLongestInstruction);
  return expert;
}

}  // namespace

std::optional<ExpertFile> read_markdown(const std::string& path, const std::string& text, Diagnostics& wrong) {
  std::string_view view = text;
  if (view.starts_with("\xef\xbb\xbf")) view.remove_prefix(3);
  if (!check_text(path, view, wrong)) return std::nullopt;
  Mistakes mistakes(path);
  FrontMatter front(view, mistakes);
  Expert expert;
  if (front.read()) expert = read_expert(front, mistakes);
  bool good = mistakes.empty();
  mistakes.tell(wrong);
  if (!good) return std::nullopt;

  ExpertFile file;
  file.path = path;
  file.experts[expert.name] = std::move(expert);
  return file;
}

bool add_markdown_folder(const std::string& folder, const std::string& caller, ExpertFile& file, Diagnostics& wrong) {
  std::size_t before = wrong.entries().size();
  ExpertFile result = file;
  auto found = result.experts.find(caller);
  if (found == result.experts.end())
    return wrong.add({folder}, "there is no expert {} to which these can be added", quote(caller)), false;

  std::vector<std::string> paths;
  std::error_code error;
  for (fs::directory_iterator entry(folder, error), end; !error && entry != end; entry.increment(error))
    if (entry->path().extension() == ".md") paths.push_back(entry->path().string());
  if (error) return wrong.add({folder}, "cannot be listed: {}", error.message()), false;
  if (paths.size() > kMostFiles) return wrong.add({folder}, "more than {} files", kMostFiles), false;
  std::ranges::sort(paths);

  for (const std::string& path : paths) {
    auto text = read_text_file(path, wrong);
    auto read = text ? read_markdown(path, *text, wrong) : std::nullopt;
    if (!read) continue;
    auto& [name, expert] = *read->experts.begin();
    bool is_tool = is_builtin(name);
    for (const auto& [skill_name, skill] : found->second.skills)
      if (const auto* interactive = std::get_if<InteractiveSkill>(&skill.is))
        is_tool |= interactive->tools.contains(name);
    if (is_tool) wrong.add({path}, "expert {} has a tool called {} already", quote(caller), quote(name));
    if (!result.experts.emplace(name, expert).second) wrong.add({path}, "there is an expert {} already", quote(name));
    found->second.delegates.push_back(name);
  }
  if (wrong.entries().size() > before) return false;
  file = std::move(result);
  return true;
}

}  // namespace runner::agent
