// The root of a session: image layers below, a writable layer on top.
#pragma once

#include "isolate/disk.h"
#include "isolate/plan.h"
#include "isolate/sys/fd.h"

namespace isolate {

struct LayeredRoot {
  sys::Fd root;       // a detached overlay mount
  sys::Fd generated;  // the mount of the generated layer, where that is one. Attach it before it is closed: see MountHandles
};

/// Makes Plan::files in a layer of their own, owned by the ids that the plan's map gives them, and mounts the overlay. The layer is
/// fresh, and nothing in it is followed: an image's symbolic links lie in the layers below and are not seen (CVE-2025-24965).
/// It lies below the upper one, so that it may be on a tmpfs: 30 small files cost 0.3 ms there and 4 ms on ext4.
/// With `lower_ids` the lower layers but the generated one are id-mapped first, which only the parent of the sandbox may do.
/// `disk` is where the writable layer lies.
LayeredRoot layer_root(const Plan& plan, const Disk& disk);

}  // namespace isolate
