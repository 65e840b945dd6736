// Extended attributes of the files of a layer: those that a sandbox can see or overlayfs obeys.
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

namespace runner::snapshot {

/// Names and values, by name.
using Attributes = std::vector<std::pair<std::string, std::string>>;

/// user.*, security.capability, the two ACLs, and of trusted.overlay.* what has a meaning in a lower layer: opaque, redirect, metacopy,
/// whiteout and the like, but not origin, impure, nlink and uuid, which speak of the inodes of one upper layer.
bool is_kept(const std::string& name);

/// Those of a file or directory, open for reading, that are kept.
Attributes read_attributes(int fd, const std::string& path);
/// After the owner was set, which takes the capability away; of a directory after its children were made, which inherit its ACL.
void write_attributes(int fd, const Attributes& attributes, const std::string& path);

/// How 65,536 ids from `from` on become those from `to` on: a session's range and 0, which is how an image has them.
struct Shift {
  std::uint32_t from = 0, to = 0;
  bool strangers = false;  // others become nobody's, as the session sees them; else one is an error
};

/// The ids in ACLs and in a capability of a user namespace. Throws when one is outside of the range.
void shift_ids(Attributes& attributes, const Shift& shift, const std::string& path);
std::uint32_t shifted(std::uint32_t id, const Shift& shift, const std::string& path);

}  // namespace runner::snapshot
