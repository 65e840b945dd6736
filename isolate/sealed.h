// Programs of ours that a sandbox can see as /proc/PID/exe, out of reach of its writes (CVE-2019-5736).
#pragma once

#include <string>

#include "isolate/plan.h"
#include "isolate/sys/fd.h"

namespace isolate {

/// A descriptor to execute `path` from, through which nobody in a sandbox with the ids `inside` (empty: the host's) can write to the
/// file. One that none of them may write to is opened as it is; else it is a sealed copy in memory or, where it is large and we
/// are root, a detached read-only mount of it (whose end costs the kernel 0.3 ms).
sys::Fd open_sealed(const std::string& path, const IdMap& inside);

/// The path that this program was started from.
std::string program_path();

}  // namespace isolate
