// The tools that say what is there.
#pragma once

#include <string>

#include "runner/tools/workspace.h"

namespace runner::tools {

constexpr std::size_t kMostEntries = 2000;           // that are shown
constexpr std::size_t kLongestListing = 512u << 10;  // bytes: names can be long
constexpr std::size_t kMostLooked = 200'000;         // names that are read to find and sort those
constexpr std::size_t kDeepestListing = 64;          // open directories at once

/// One line each: what it is, its size, its path. Sorted; symbolic links are shown and not followed.
std::string list_dir(const Workspace& workspace, const std::string& path, bool recursive);
/// Of the name itself, when it is a symbolic link.
std::string stat_path(const Workspace& workspace, const std::string& path);

}  // namespace runner::tools
