// Programs of ours that a sandbox can see as /proc/PID/exe, out of reach of its writes (CVE-2019-5736).
#pragma once

#include <string>

#include "isolate/sys/fd.h"

namespace isolate {

/// A descriptor to execute `path` from, through which nobody can write to the file: root's is a detached read-only mount of it, an
/// ordinary user's own file is copied to a sealed memory file, and a file that this user cannot write to is opened as it is.
sys::Fd open_sealed(const std::string& path);

/// The path that this program was started from.
std::string program_path();

}  // namespace isolate
