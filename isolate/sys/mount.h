// The mount API of Linux 5.2 and later, on descriptors: fsopen, open_tree, move_mount, mount_setattr.
#pragma once

#include <sys/mount.h>
#include <sys/types.h>

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "isolate/sys/fd.h"

namespace isolate::sys {

/// Parameters of fsconfig(2): a value, or an empty one for a flag ("ro" is {"ro", ""}).
using FsOptions = std::vector<std::pair<std::string, std::string>>;
using FsDescriptors = std::vector<std::pair<std::string, int>>;

/// A new file system as a detached mount with `attributes` (MOUNT_ATTR_*).
/// The kernel's own message, read from the context, is part of the error.
Fd new_mount(const std::string& type, const std::string& source, const FsOptions& options, unsigned attributes, const FsDescriptors& descriptors = {});

/// A detached copy of the mount at `path` below `dir` (AT_FDCWD allowed); `path` may be "" for `dir` itself.
Fd copy_mount(int dir, const std::string& path, bool recursive);

/// mount_setattr(2) on the mount of `fd`. `propagation` is MS_PRIVATE, MS_SLAVE, ... or 0;
/// `id_map` a descriptor of the user namespace that gives the mapping, or -1.
void set_mount(int fd, std::uint64_t set, std::uint64_t clear, bool recursive, std::uint64_t propagation = 0, int id_map = -1);

/// Sets MS_PRIVATE, MS_SLAVE, MS_SHARED or MS_UNBINDABLE, with MS_REC for all mounts below; 0: leaves it.
void set_propagation(int fd, std::uint64_t propagation);

/// Attaches a detached mount on `target` (an O_PATH descriptor).
void attach_mount(int mount, int target, const std::string& name);

/// A line of /proc/PID/mountinfo: proc(5).
struct MountEntry {
  std::string root;     // what of the file system it shows
  std::string at;       // where, from the root of that process
  std::string type;
  std::string options;  // of the file system, not of this mount
};
/// The mounts that a process sees, in the kernel's order; 0: this process.
std::vector<MountEntry> mount_table(pid_t pid = 0);

}  // namespace isolate::sys
