// Whole small files: /proc, cgroups, state. Sizes are in bytes.
#pragma once

#include <sys/types.h>

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "isolate/sys/fd.h"

namespace isolate::sys {

Fd open_file(const std::string& path, int flags, mode_t mode = 0);
Fd open_dir(const std::string& path);                     ///< O_PATH
std::optional<Fd> find_dir(const std::string& path);      ///< empty when there is no such directory

/// The contents; throws when the file is larger than `limit` (a file of ours or of a caller, never trusted to be small).
std::string read_file(const std::string& path, std::size_t limit = 16u << 20);
std::string read_file_at(int dir, const std::string& name, std::size_t limit = 1u << 20);
std::optional<std::string> find_file(const std::string& path, std::size_t limit = 16u << 20);
std::optional<std::string> find_file_at(int dir, const std::string& name, std::size_t limit = 1u << 20);

/// What a symbolic link says; empty when there is none of that name.
std::optional<std::string> find_link(const std::string& path);

/// One write(2), as /proc and cgroup files want it. The file must exist.
void write_file(const std::string& path, std::string_view text);
void write_file_at(int dir, const std::string& name, std::string_view text);

void write_all(int fd, std::string_view bytes);

/// A file in memory with these contents, which knows no other name than `name` in /proc; its position is the beginning.
Fd memory_file(const char* name, std::string_view bytes);

/// Written aside and renamed: a reader sees the old file or the new one, never half of one.
/// With `durable` the file and its folder are synced first.
void replace_file(const std::string& path, std::string_view text, mode_t mode, bool durable = false);

void make_dirs(const std::string& path, mode_t mode);     ///< like mkdir -p
std::vector<std::string> list_dir(const std::string& path);  ///< names without . and .., sorted; empty if there is none

/// Removes a tree of files, not following symbolic links and not crossing into other mounts. Missing is fine.
void remove_tree(const std::string& path);

}  // namespace isolate::sys
