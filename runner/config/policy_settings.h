// Every key of a policy file: how it is read, how it is shown, and what it is for. policy.cc finds the files and puts
// them in order.
#pragma once

#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "runner/config/diagnostics.h"
#include "runner/config/policy.h"
#include "runner/config/yaml.h"

namespace runner {

/// One file being read over a policy.
struct Reading {
  Policy& policy;
  Diagnostics& wrong;
  const std::string& folder;  // of the file; relative paths start here. Empty: leave them as they are
  bool ok = true;             // false: the value was refused, so that its place is not kept either

  template <typename... Args>
  void refuse(const Where& where, fmt::format_string<const Args&...> text, const Args&... args) {
    ok = false;
    wrong.add(where, text, args...);
  }
};

struct Setting {
  std::string_view section, key;  // section "": at the top of the file
  void (*read)(const Node&, Reading&);
  std::string (*show)(const Policy&);  // nullptr: a mapping of its own, shown entry by entry
  std::string_view meaning;            // one sentence

  std::string path() const { return section.empty() ? std::string(key) : fmt::format("{}.{}", section, key); }
};

/// Designed, and not enforced yet. To accept such a key would be a promise that nobody keeps.
struct NotBuilt {
  std::string_view section, key, instead;
};

std::span<const Setting> all_settings();
std::span<const NotBuilt> all_not_built();

/// "1024:4096", "64K", "unlimited".
std::string show_rlimit(const std::string& name, const Policy::Rlimit& limit);
std::string_view rlimit_meaning(const std::string& name);  // one sentence

/// The candidate that a typing mistake may have meant, if one is near enough.
std::optional<std::string> nearest(std::string_view text, const std::vector<std::string>& candidates);

/// "/opt//tools/" -> "/opt/tools". Nothing for a relative path, a "." or a "..": those name ways, not places.
std::optional<std::string> plain_path(std::string_view text);

/// Whether `path` is `folder` or below it. Both are plain.
bool is_within(std::string_view path, std::string_view folder);

}  // namespace runner
