#include "runner/config/policy.h"

#include <algorithm>
#include <filesystem>
#include <set>

#include "runner/config/policy_settings.h"
#include "runner/config/yaml.h"

namespace fs = std::filesystem;

namespace runner {

namespace {

constexpr std::size_t kMostExtends = 8;
constexpr std::size_t kLongestPath = 4095;
constexpr std::string_view kSuffix = ".yaml";

using Folders = std::vector<std::string>;  // searched in this order

// ---- one file over the policy ------------------------------------------------------------------------------------

const Setting* find_setting(std::string_view section, std::string_view key) {
  for (const Setting& setting : all_settings())
    if (setting.section == section && setting.key == key) return &setting;
  return nullptr;
}

// "memory, cpus, pids, wall, output"; empty for what is no section.
std::string keys_of(std::string_view section) {
  std::vector<std::string_view> keys;
  for (const Setting& setting : all_settings())
    if (!section.empty() && setting.section == section) keys.push_back(setting.key);
  return fmt::format("{}", fmt::join(keys, ", "));
}

void refuse_unknown(const Node& node, std::string_view section, Reading& to) {
  std::string in = section.empty() ? "" : fmt::format(" in {}", section);
  std::vector<std::string> here;
  if (section.empty()) here = {"version", "extends"};
  for (const Setting& setting : all_settings()) {
    if (setting.section == section)
      here.emplace_back(setting.key);
    else if (section.empty())
      here.emplace_back(setting.section);
  }
  if (auto meant = nearest(node.key(), here))
    return to.refuse(node.key_where(), "unknown key {}{}, did you mean '{}'?", quote(node.key()), in, *meant);

  for (const Setting& setting : all_settings()) {  // the right word in the wrong place
    if (setting.key != node.key()) continue;
    std::string place = setting.section.empty() ? "at the top of the file" : fmt::format("in '{}'", setting.section);
    return to.refuse(node.key_where(), "unknown key {}{}; it belongs {}", quote(node.key()), in, place);
  }
  to.refuse(node.key_where(), "unknown key {}{}", quote(node.key()), in);
}

bool refuse_not_built(const Node& node, std::string_view section, Reading& to) {
  for (const NotBuilt& missing : all_not_built()) {
    if (missing.section != section || missing.key != node.key()) continue;
    std::string path = section.empty() ? node.key() : fmt::format("{}.{}", section, node.key());
    to.refuse(node.key_where(), "{} is not enforced by this version of runner; remove it ({})", path, missing.instead);
    return true;
  }
  return false;
}

void apply_setting(const Setting& setting, const Node& node, Reading& to) {
  to.ok = true;
  setting.read(node, to);
  if (to.ok) to.policy.set_at[setting.path()] = node.key_where();
}

void apply_section(const Node& mapping, Reading& to) {
  for (const Node& node : mapping.items()) {
    if (refuse_not_built(node, mapping.key(), to)) continue;
    if (const Setting* setting = find_setting(mapping.key(), node.key()))
      apply_setting(*setting, node, to);
    else
      refuse_unknown(node, mapping.key(), to);
  }
}

void apply_top_level(const Node& node, Reading& to) {
  const std::string& key = node.key();
  if (key == "version" || key == "extends") return;  // read before anything else
  if (refuse_not_built(node, "", to)) return;
  if (const Setting* setting = find_setting("", key)) return apply_setting(*setting, node, to);

  std::string keys = keys_of(key);
  if (keys.empty()) return refuse_unknown(node, "", to);
  if (node.kind() == Node::Kind::Mapping) return apply_section(node, to);
  if (key == "seccomp") return apply_setting(*find_setting(key, "profile"), node, to);  // "seccomp: [agent]" in short
  to.refuse(node.where(), "{} must be a mapping (of {}), not {}", key, keys, node.shown());
}

// Relative paths in the file are taken from `folder`.
void apply_file(const Node& root, const std::string& folder, Policy& policy, Diagnostics& wrong) {
  if (root.kind() != Node::Kind::Mapping)
    return wrong.add(root.where(), "a policy is a mapping that begins with 'version: 1', not {}", root.shown());

  const Node* version = root.find("version");
  if (!version)
    wrong.add(root.where(), "version is missing; a policy begins with 'version: 1'");
  else if (version->text() != "1")
    wrong.add(version->where(), "version must be 1, not {}", version->shown());

  Reading to{policy, wrong, folder};
  for (const Node& node : root.items()) apply_top_level(node, to);
}

// ---- from a name to the files ------------------------------------------------------------------------------------

// One file of a chain in which each extends the next.
struct File {
  std::string path;
  Node root;

  std::string folder() const { return fs::path(path).parent_path().string(); }
};

std::string name_of(const std::string& path) { return fs::path(path).stem().string(); }

bool is_path(const std::string& text) { return text.find('/') != std::string::npos || text.ends_with(kSuffix); }

// The same for two paths of one file.
std::string identity(const std::string& path) {
  std::error_code error;
  fs::path real = fs::weakly_canonical(path, error);
  return error ? path : real.string();
}

std::optional<std::string> find_by_name(const std::string& name, const Folders& folders, const Where& asked,
                                        Diagnostics& wrong) {
  for (const std::string& folder : folders) {
    std::string path = fmt::format("{}/{}{}", folder, name, kSuffix);
    std::error_code error;
    if (fs::exists(path, error) || error) return path;  // one that cannot be looked at is reported when it is opened
  }
  std::vector<std::string> known = list_policies(folders);
  std::string others = known.empty() ? fmt::format("nor any other in [{}]", fmt::join(folders, ", "))
                                     : fmt::format("there are {}", fmt::join(known, ", "));
  auto meant = nearest(name, known);
  if (meant)
    wrong.add(asked, "there is no policy {}, did you mean '{}'?", quote(name), *meant);
  else
    wrong.add(asked, "there is no policy {}; {}", quote(name), others);
  return std::nullopt;
}

// `from`: the folder of the file that names another; empty: a path is taken as it is.
std::optional<std::string> find_policy(const std::string& text, const std::string& from, const Folders& folders,
                                       const Where& asked, Diagnostics& wrong) {
  auto is_control = [](unsigned char c) { return c < 0x20 || c == 0x7f; };
  if (text.empty() || text.size() > kLongestPath || std::ranges::any_of(text, is_control)) {
    wrong.add(asked, "{} cannot be the name or the path of a policy", quote(text));
    return std::nullopt;
  }
  if (!is_path(text)) return find_by_name(text, folders, asked, wrong);
  return text[0] == '/' || from.empty() ? text : from + "/" + text;
}

// "a -> b -> a"
std::string chain_text(const std::vector<File>& chain, const std::string& last) {
  std::string text;
  for (const File& file : chain) text += name_of(file.path) + " -> ";
  return text + name_of(last);
}

// What the last file of the chain extends. Nothing: it extends nothing, or what it names is refused.
std::optional<std::string> next_of(const std::vector<File>& chain, const Folders& folders, Diagnostics& wrong) {
  const Node* extends = chain.back().root.find("extends");
  if (!extends) return std::nullopt;
  if (extends->kind() != Node::Kind::Text) {
    wrong.add(extends->where(), "extends must be the name or the path of a policy, not {}", extends->shown());
    return std::nullopt;
  }
  auto path = find_policy(extends->text(), chain.back().folder(), folders, extends->where(), wrong);
  if (!path) return std::nullopt;

  auto is_it = [&](const File& file) { return identity(file.path) == identity(*path); };
  if (std::ranges::any_of(chain, is_it)) {
    wrong.add(extends->where(), "policies extend each other in a circle: {}", chain_text(chain, *path));
    return std::nullopt;
  }
  if (chain.size() > kMostExtends) {
    wrong.add(extends->where(), "more than {} policies extend one another: {}", kMostExtends, chain_text(chain, *path));
    return std::nullopt;
  }
  return path;
}

}  // namespace

std::optional<Policy> load_policy(const std::string& name_or_path, const Folders& folders, Diagnostics& wrong) {
  std::size_t before = wrong.entries().size();
  std::vector<File> chain;
  auto path = find_policy(name_or_path, "", folders, {}, wrong);
  while (path) {
    auto root = load_yaml(*path, wrong);
    if (!root && !chain.empty())
      wrong.add(chain.back().root.find("extends")->where(), "the policy that this one extends cannot be read");
    if (!root) break;
    chain.push_back({*path, std::move(*root)});
    path = next_of(chain, folders, wrong);
  }

  Policy policy;
  for (const File& file : chain) policy.files.push_back(file.path);
  if (!chain.empty()) policy.name = name_of(chain.front().path);
  std::ranges::reverse(chain);  // what is extended comes first: each file speaks over those before it
  for (const File& file : chain) {
    policy.description.clear();
    policy.set_at.erase("description");
    apply_file(file.root, file.folder(), policy, wrong);
  }
  if (wrong.entries().size() > before) return std::nullopt;
  return policy;
}

std::optional<Policy> parse_policy_text(const std::string& source, std::string_view text, Diagnostics& wrong) {
  std::size_t before = wrong.entries().size();
  auto root = parse_yaml(source, text, wrong);
  if (!root) return std::nullopt;

  Policy policy;
  policy.name = name_of(source);
  policy.files = {source};
  if (const Node* extends = root->find("extends"))
    wrong.add(extends->key_where(), "extends is for a policy that is in a file");
  apply_file(*root, "", policy, wrong);
  if (wrong.entries().size() > before) return std::nullopt;
  return policy;
}

std::string explain_policy(const Policy& policy) {
  std::string text = fmt::format("policy {} ({})\n", policy.name, fmt::join(policy.files, " extends "));
  auto line = [&](const std::string& path, const std::string& value, std::string_view meaning) {
    auto set = policy.set_at.find(path);
    bool is_set = set != policy.set_at.end();
    std::string place = is_set ? fmt::format("{}:{}", set->second.source, set->second.line) : "built in";
    text += fmt::format("{:<22} {:<12}  # {}: {}\n", path, value, place, meaning);
  };
  for (const Setting& setting : all_settings()) {
    std::string path = setting.path();
    if (setting.show) {
      line(path, setting.show(policy), setting.meaning);
    } else if (path == "environment" && !policy.environment.empty()) {
      for (const auto& [name, value] : policy.environment) line(path + "." + name, quote(value), setting.meaning);
    } else if (path == "rlimits" && !policy.rlimits.empty()) {
      for (const auto& [name, limit] : policy.rlimits)
        line(path + "." + name, show_rlimit(name, limit), rlimit_meaning(name));
    } else {
      line(path, "{}", setting.meaning);
    }
  }
  return text;
}

std::vector<std::string> list_policies(const Folders& folders) {
  std::set<std::string> names;
  for (const std::string& folder : folders) {
    std::error_code error;  // a folder that is missing, or not ours to read, has nothing to offer
    for (fs::directory_iterator entry(folder, error), end; !error && entry != end; entry.increment(error))
      if (entry->path().extension() == kSuffix) names.insert(entry->path().stem().string());
  }
  return {names.begin(), names.end()};
}

Where Policy::where(const std::string& setting) const {
  auto found = set_at.find(setting);
  return found == set_at.end() ? Where{fmt::format("policy {}", name)} : found->second;
}

const char* word(Policy::Kept kept) {
  return kept == Policy::Kept::Copy ? "copy" : kept == Policy::Kept::Exclude ? "exclude" : "share";
}

bool may_be_writable(const Policy& policy, std::string_view to) {
  auto path = plain_path(to);
  if (!path) return false;
  auto is_in = [&](const std::string& folder) { return is_within(*path, folder); };
  return std::ranges::any_of(policy.binds.writable, is_in);
}

std::optional<std::string> forbidden_source(const Policy& policy, std::string_view from) {
  auto path = plain_path(from);
  if (!path) return std::string(from);
  for (const std::string& entry : policy.binds.forbid_sources) {
    bool is_below = entry == "/" ? *path == "/" : is_within(*path, entry);
    if (is_below || is_within(entry, *path)) return entry;
  }
  return std::nullopt;
}

}  // namespace runner
