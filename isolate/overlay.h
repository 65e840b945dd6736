// The root of a session: image layers below, a writable layer on top.
#pragma once

#include "isolate/plan.h"
#include "isolate/sys/fd.h"

namespace isolate {

/// Makes Plan::files in the upper layer, owned by the ids that the plan's map gives them. The layer is ours and fresh,
/// and nothing in it is followed: an image's symbolic links lie in the layers below and are not seen (CVE-2025-24965).
void write_files(const Plan& plan);

/// A detached overlay mount. With `lower_ids` the layers are id-mapped first, which only the parent of the sandbox may do.
sys::Fd mount_overlay(const Overlay& overlay, bool privileged);

}  // namespace isolate
