// What the files of the store have in common: its names, and its locks.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "isolate/sys/fd.h"
#include "runner/session/directories.h"
#include "runner/snapshot/keys.h"

namespace runner::snapshot {

inline constexpr const char* kManifest = "manifest.json";
inline constexpr const char* kFolders[] = {"criu", "files", "layers"};
inline constexpr std::size_t kLargestManifest = (1u << 20) + 256;

inline std::string store_path(const session::Directories& directories) { return directories.data + "/snapshots"; }
inline Keys keys_of(const session::Directories& directories) { return Keys(directories.data + "/snapshots.key"); }

/// A directory opened and locked: `operation` as flock(2) has it. Empty when it is not there, or not any more, or when LOCK_NB was
/// asked for and another has it.
std::optional<isolate::sys::Fd> lock_directory(const std::string& path, int operation);
/// The store's own lock; waits.
isolate::sys::Fd lock_store(const std::string& store, int operation);

/// A new file with these contents, mode 0600, synced.
void write_new(const std::string& path, std::string_view text);
void sync_directory(const std::string& path);

/// The next of the store's counter, which is on the disk when it returns.
std::uint64_t next_counter(const std::string& store);

}  // namespace runner::snapshot
