// AppArmor: a profile confines a program on top of all else, wherever the host's kernel has it enabled. What takes a profile up is
// runner-exec (isolate/exec/main.cc), right before the program.
#pragma once

#include <string>

namespace isolate {

bool has_apparmor();  ///< in the kernel, and enabled

/// Throws SystemError when a process could not run under `profile`: ENOTSUP without AppArmor, ENOENT when it is not loaded (which
/// only root can see beforehand). Empty: nothing is asked for.
void check_profile(const std::string& profile);

}  // namespace isolate
