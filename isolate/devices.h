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

/// For a user namespace of the sandbox's own, which may not make nodes: those that the host has not (under that path, with that number), in a file system of their own, each
/// named by its place in Plan::devices. A detached mount, to be attached out of sight. Empty where the host has all of them, or whoever calls has no right.
sys::Fd make_devices(const Plan& plan);

/// Fills /dev below `root`: the plan's nodes, the links that POSIX programs expect, /dev/ptmx of the sandbox's own devpts,
/// and /dev/console when `console` is a terminal's descriptor (else -1). `made` is what make_devices() gave, attached, or -1.
void fill_dev(int root, const Plan& plan, int console, int made);

}  // namespace isolate
