// Paths that somebody else controls, resolved by openat2(2) so that no symbolic link can lead out.
#pragma once

#include <string>

#include "isolate/sys/fd.h"

namespace isolate::sys {

enum class Links {
  InRoot,  ///< followed, but an absolute link or `..` ends at the root given (RESOLVE_IN_ROOT)
  Refuse,  ///< any symbolic link on the way is ELOOP
};

/// An O_PATH descriptor of `path` below `root`; magic links are never followed. Throws when it is missing.
Fd open_below(int root, const std::string& path, Links links);
/// The same, but an empty Fd when it is missing.
Fd find_below(int root, const std::string& path, Links links);

enum class Make { Directory, File };

/// Opens `path` below `root`, making what is missing: directories 0755 on the way, and at the end what `make` says.
Fd make_below(int root, const std::string& path, Make make, Links links);

/// "/a//b/./c/" -> "/a/b/c". Throws when a component is "..": a plan names places, not ways to them.
std::string clean_path(const std::string& path);

/// The name under which the kernel offers a descriptor to calls that take paths.
std::string fd_path(int fd);

}  // namespace isolate::sys
