// A ceiling on what a session writes to the disk: its writable layer, or its workspace.
//
// A project quota where the file system enforces them (ext4, xfs: quotactl_fd(2), Linux 5.14), which costs nothing.
// Elsewhere a file system of its own in a sparse file on a loop device: 10 ms at the start, and it works on every file system.
// Where there are no loop devices either, a tmpfs of that size: then all that is written counts against the session's memory limit, too,
// and goes when the session ends. All three need the rights of the host's root.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "isolate/plan.h"
#include "isolate/sys/fd.h"

namespace isolate {

/// What is to be bounded: folders that lie beside each other.
struct DiskPlace {
  std::string folder;              // where they are, and an image would be
  std::vector<std::string> names;  // theirs. They exist, and are empty unless `shared`
  DiskLimit limit;
  bool lasting = true;
  bool shared = false;             // see Quota: only a project quota will do
};

class Disk {
 public:
  enum class Way { None, Project, Image, Memory };

  struct Usage {
    std::uint64_t used = 0, free = 0;  // bytes
    std::string source;                // who counts
  };

  Disk() noexcept = default;  ///< no limit

  /// Where no way works it throws ENOTSUP with all reasons, or with DiskLimit::warn_missing says missing().
  static Disk limit(const DiskPlace& place);
  static Disk limit(const Overlay& overlay);  ///< Overlay::disk, for `upper` and `work`

  /// Where the folders then lie: a detached mount, to be used before this object goes. -1: where they were.
  /// A single folder is the mount itself; several are in it by their names.
  int mount() const noexcept { return way_ == Way::Image || way_ == Way::Memory ? place_.get() : -1; }
  Way way() const noexcept { return way_; }
  std::uint64_t bytes() const noexcept { return bytes_; }
  const std::string& missing() const noexcept { return missing_; }  ///< why it is not in force; empty: it is, or there is none
  std::optional<Usage> usage() const;

 private:
  sys::Fd place_;  // the folder that has the quota, or the mount
  Way way_ = Way::None;
  std::uint64_t bytes_ = 0;
  std::string missing_;
  std::uint32_t project_ = 0;
};

/// The best that this host has for files below `folder`; None: a limit cannot be kept.
Disk::Way best_way(const std::string& folder);

/// "project quota", "loop image", "memory"; empty for none.
const char* name_of(Disk::Way way);

}  // namespace isolate
