#include "isolate/attributes.h"

#include <sys/vfs.h>

#include "isolate/sys/error.h"
#include "isolate/sys/mount.h"
#include "isolate/usher.h"

namespace isolate {

using namespace sys;

namespace {

constexpr std::uint64_t kLockable = MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC;
constexpr std::uint64_t kReplaced = kLockable | MOUNT_ATTR_NOSYMFOLLOW;
constexpr std::uint64_t kTimes = MOUNT_ATTR__ATIME | MOUNT_ATTR_NODIRATIME;

// statfs(2) has them in numbers of its own.
std::uint64_t attributes_of(int fd) {
  constexpr long kStNoAtime = 0x400, kStNoDirAtime = 0x800, kStRelAtime = 0x1000;
  static_assert(MOUNT_ATTR_RDONLY == 1 && MOUNT_ATTR_NOSUID == 2 && MOUNT_ATTR_NODEV == 4 && MOUNT_ATTR_NOEXEC == 8);  // as ST_*
  struct statfs info;
  check(::fstatfs(fd, &info), "look at the attributes of a mount");
  std::uint64_t found = static_cast<std::uint64_t>(info.f_flags) & kLockable;
  if (info.f_flags & kStNoDirAtime) found |= MOUNT_ATTR_NODIRATIME;
  if (info.f_flags & kStNoAtime) found |= MOUNT_ATTR_NOATIME;
  else if (!(info.f_flags & kStRelAtime)) found |= MOUNT_ATTR_STRICTATIME;
  return found;
}

void replace_attributes(int fd, const Mount& mount, const Plan& plan) {
  if (!plan.makes(NamespaceKind::User) && !joins_user_namespace(plan)) {
    try {
      return set_mount(fd, mount.set, mount.clear | (kReplaced & ~mount.set), false);
    } catch (const SystemError& error) {
      if (error.code() != EPERM) throw;  // the user namespace is our caller's
    }
  }
  std::uint64_t locked = attributes_of(fd), wanted = mount.set & kTimes;
  bool other_times = mount.clear & kTimes && wanted != (locked & kTimes);
  bool refused = mount.clear & locked & kLockable & ~std::uint64_t{MOUNT_ATTR_RDONLY} || other_times;
  if (mount.clear & locked & MOUNT_ATTR_RDONLY) {  // statfs(2) says so of a file system that is read-only, too: then no mount of it has a lock
    set_mount(fd, 0, MOUNT_ATTR_RDONLY, false);
    refused |= !(attributes_of(fd) & MOUNT_ATTR_RDONLY);
  }
  if (refused)
    fail(EPERM, "take an attribute from the bind at {} (that its source has, and that is locked in a user namespace)", mount.to);
  set_mount(fd, mount.set & ~kTimes, kReplaced & ~mount.set & ~locked, false);
}

}  // namespace

void set_attributes(int fd, const Mount& mount, const Plan& plan) {
  auto* bind = std::get_if<Bind>(&mount.what);
  if (bind && bind->replaces) replace_attributes(fd, mount, plan);
  else if (mount.set || mount.clear) set_mount(fd, mount.set, mount.clear, false);
  if (mount.set_recursive || mount.clear_recursive) set_mount(fd, mount.set_recursive, mount.clear_recursive, true);
}

}  // namespace isolate
