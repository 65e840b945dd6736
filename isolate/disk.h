// A ceiling on what a session writes to the disk.
//
// A project quota where the file system of the writable layer enforces them (ext4, xfs: quotactl_fd(2), Linux 5.14), which costs nothing.
// Elsewhere a file system of its own in a sparse file on a loop device: 10 ms at the start, and it works on every file system.
// Both need the rights of the host's root.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "isolate/plan.h"
#include "isolate/sys/fd.h"

namespace isolate {

class Disk {
 public:
  struct Usage {
    std::uint64_t used = 0, free = 0;  // bytes
    std::string source;                // who counts
  };

  Disk() noexcept = default;  ///< no limit

  /// Puts Overlay::disk in force for `upper` and `work`, which exist and are empty. Where no way works it throws ENOTSUP with all reasons,
  /// or with DiskLimit::warn_missing says missing().
  static Disk limit(const Overlay& overlay);

  /// Where `upper` and `work` then lie: a detached mount, to be used before this object goes. -1: where the overlay says.
  int mount() const noexcept { return image_ ? place_.get() : -1; }
  const std::string& missing() const noexcept { return missing_; }  ///< why it is not in force; empty: it is, or there is none
  std::optional<Usage> usage() const;

 private:
  sys::Fd place_;  // the folder that has the quota, or the mount of the image
  bool image_ = false;
  std::string missing_;
  std::uint32_t project_ = 0;
};

}  // namespace isolate
