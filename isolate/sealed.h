// Programs of ours that a sandbox can see as /proc/PID/exe, out of reach of its writes (CVE-2019-5736).
#pragma once

#include <string>

#include "isolate/sys/fd.h"

namespace isolate {

/// A descriptor to execute `path` from, through which nobody can write to the file: root's is a detached read-only mount of it, an
/// ordinary user's own file is copied to a sealed memory file, and a file that this user cannot write to is opened as it is.
sys::Fd open_sealed(const std::string& path);

/// Executes this very program again from such a descriptor, unless it runs from one already. To be called first thing by a verb
/// whose child becomes a program of a container with the host's ids.
void run_sealed(char** argv);

/// The path that this program was started from, also when it was executed again.
std::string program_path();

}  // namespace isolate
