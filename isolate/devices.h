// The device nodes of a sandbox.
#pragma once

#include <sys/mount.h>

#include "isolate/plan.h"
#include "isolate/sys/fd.h"

namespace isolate {

/// Of a mount that shows a node of the host: what can be done to its inode (chmod, chown, times) must not be.
inline constexpr std::uint64_t kNodeAttributes = MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NOEXEC;

/// An O_PATH descriptor of a node of the host whose type and number were checked: a name under /dev proves nothing.
sys::Fd open_host_device(const std::string& path, char type, unsigned major, unsigned minor);

/// Fills /dev below `root`: the plan's nodes, the links that POSIX programs expect, /dev/ptmx of the sandbox's own devpts,
/// and /dev/console when `console` is a terminal's descriptor (else -1).
void fill_dev(int root, const Plan& plan, int console);

}  // namespace isolate
