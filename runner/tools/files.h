// The tools that read and change files. Each gives the text for the model, or throws Refused or SystemError.
#pragma once

#include <cstdint>
#include <string>

#include "runner/tools/workspace.h"

namespace runner::tools {

constexpr std::uint64_t kUsualRead = 256u << 10, kLongestRead = 1000u << 10;  // bytes of one call; runner shows 1 MiB of a result
constexpr std::uint64_t kLargestEdit = 16u << 20;                             // of a file that is edited, before and after

std::string read_file(const Workspace& workspace, const std::string& path, std::uint64_t offset, std::uint64_t limit);
std::string write_file(const Workspace& workspace, const std::string& path, const std::string& content);
std::string edit_file(const Workspace& workspace, const std::string& path, const std::string& old, const std::string& fresh, bool all);
std::string append_file(const Workspace& workspace, const std::string& path, const std::string& content);
std::string move_path(const Workspace& workspace, const std::string& from, const std::string& to);
std::string delete_path(const Workspace& workspace, const std::string& path, bool recursive);
std::string make_dir(const Workspace& workspace, const std::string& path);

}  // namespace runner::tools
