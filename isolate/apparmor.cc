#include "isolate/apparmor.h"

#include <sstream>

#include "isolate/sys/error.h"
#include "isolate/sys/file.h"

namespace isolate {

using namespace sys;

bool has_apparmor() { return find_file("/sys/module/apparmor/parameters/enabled").value_or("N")[0] == 'Y'; }

void check_profile(const std::string& profile) {
  if (profile.empty()) return;
  if (!has_apparmor()) fail(ENOTSUP, "apply apparmor profile {} (apparmor is not enabled on this host)", profile);
  // Lines "NAME (enforce)". Stacked ones and those of a namespace are left to the kernel.
  std::string loaded;
  try {
    loaded = read_file("/sys/kernel/security/apparmor/profiles");
  } catch (const SystemError&) {
    return;  // an ordinary user: the kernel says it at execve
  }
  std::istringstream lines(loaded);
  if (profile.find_first_of(":&") != std::string::npos) return;
  for (std::string line; std::getline(lines, line);)
    if (line.rfind(profile + " (", 0) == 0) return;
  fail(ENOENT, "apply apparmor profile {} (it is not loaded: see aa-status)", profile);
}

}  // namespace isolate
