// The mount options of mount(8) and of the specification that are not a file system's own. One table: what the parser
// accepts is what `features` lists.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace runner::oci {

enum class MountEffect {
  Attribute,    // MOUNT_ATTR_* of the mount
  AccessTime,   // one value of the field MOUNT_ATTR__ATIME
  Propagation,  // MS_PRIVATE, MS_SLAVE, ...
  Bind,
  Superblock,  // a flag that belongs to a new file system, by the same name
  IdMap,
  CopyUp,   // a tmpfs begins with what it hides
  Nothing,  // long without effect in the kernel
  Refused,  // known, and not built yet
};

struct MountOption {
  std::string_view name;
  MountEffect effect;
  std::uint64_t flag = 0;
  bool clear = false;      // takes the flag away
  bool recursive = false;  // also from all mounts below
};

/// Null for an option that is a file system's own.
const MountOption* find_mount_option(std::string_view name);

/// All that are accepted, sorted.
std::vector<std::string> mount_option_names();

}  // namespace runner::oci
