#include "runner/oci/mount_options.h"

#include <sys/mount.h>

#include <algorithm>
#include <iterator>

namespace runner::oci {

namespace {

using enum MountEffect;

constexpr std::uint64_t kNoSymlinks = MOUNT_ATTR_NOSYMFOLLOW;
constexpr bool kClear = true, kRecursive = true;

// Sorted by name.
constexpr MountOption kOptions[] = {
    {"async", Superblock},
    {"atime", AccessTime, MOUNT_ATTR_NOATIME, kClear},
    {"bind", Bind},
    {"defaults", Nothing},
    {"dev", Attribute, MOUNT_ATTR_NODEV, kClear},
    {"diratime", Attribute, MOUNT_ATTR_NODIRATIME, kClear},
    {"dirsync", Superblock},
    {"exec", Attribute, MOUNT_ATTR_NOEXEC, kClear},
    {"idmap", IdMap},
    {"iversion", Refused},
    {"lazytime", Superblock},
    {"loud", Nothing},
    {"mand", Nothing},
    {"noatime", AccessTime, MOUNT_ATTR_NOATIME},
    {"nodev", Attribute, MOUNT_ATTR_NODEV},
    {"nodiratime", Attribute, MOUNT_ATTR_NODIRATIME},
    {"noexec", Attribute, MOUNT_ATTR_NOEXEC},
    {"noiversion", Nothing},
    {"nolazytime", Superblock},
    {"nomand", Nothing},
    {"norelatime", AccessTime, MOUNT_ATTR_RELATIME, kClear},
    {"nostrictatime", AccessTime, MOUNT_ATTR_STRICTATIME, kClear},
    {"nosuid", Attribute, MOUNT_ATTR_NOSUID},
    {"nosymfollow", Attribute, kNoSymlinks},
    {"private", Propagation, MS_PRIVATE},
    {"ratime", AccessTime, MOUNT_ATTR_NOATIME, kClear, kRecursive},
    {"rbind", Bind, 0, !kClear, kRecursive},
    {"rdev", Attribute, MOUNT_ATTR_NODEV, kClear, kRecursive},
    {"rdiratime", Attribute, MOUNT_ATTR_NODIRATIME, kClear, kRecursive},
    {"relatime", AccessTime, MOUNT_ATTR_RELATIME},
    {"remount", Refused},
    {"rexec", Attribute, MOUNT_ATTR_NOEXEC, kClear, kRecursive},
    {"ridmap", IdMap, 0, !kClear, kRecursive},
    {"rnoatime", AccessTime, MOUNT_ATTR_NOATIME, !kClear, kRecursive},
    {"rnodev", Attribute, MOUNT_ATTR_NODEV, !kClear, kRecursive},
    {"rnodiratime", Attribute, MOUNT_ATTR_NODIRATIME, !kClear, kRecursive},
    {"rnoexec", Attribute, MOUNT_ATTR_NOEXEC, !kClear, kRecursive},
    {"rnorelatime", AccessTime, MOUNT_ATTR_RELATIME, kClear, kRecursive},
    {"rnostrictatime", AccessTime, MOUNT_ATTR_STRICTATIME, kClear, kRecursive},
    {"rnosuid", Attribute, MOUNT_ATTR_NOSUID, !kClear, kRecursive},
    {"rnosymfollow", Attribute, kNoSymlinks, !kClear, kRecursive},
    {"ro", Attribute, MOUNT_ATTR_RDONLY},
    {"rprivate", Propagation, MS_PRIVATE | MS_REC},
    {"rrelatime", AccessTime, MOUNT_ATTR_RELATIME, !kClear, kRecursive},
    {"rro", Attribute, MOUNT_ATTR_RDONLY, !kClear, kRecursive},
    {"rrw", Attribute, MOUNT_ATTR_RDONLY, kClear, kRecursive},
    {"rshared", Propagation, MS_SHARED | MS_REC},
    {"rslave", Propagation, MS_SLAVE | MS_REC},
    {"rstrictatime", AccessTime, MOUNT_ATTR_STRICTATIME, !kClear, kRecursive},
    {"rsuid", Attribute, MOUNT_ATTR_NOSUID, kClear, kRecursive},
    {"rsymfollow", Attribute, kNoSymlinks, kClear, kRecursive},
    {"runbindable", Propagation, MS_UNBINDABLE | MS_REC},
    {"rw", Attribute, MOUNT_ATTR_RDONLY, kClear},
    {"shared", Propagation, MS_SHARED},
    {"silent", Nothing},
    {"slave", Propagation, MS_SLAVE},
    {"strictatime", AccessTime, MOUNT_ATTR_STRICTATIME},
    {"suid", Attribute, MOUNT_ATTR_NOSUID, kClear},
    {"symfollow", Attribute, kNoSymlinks, kClear},
    {"sync", Superblock},
    {"tmpcopyup", CopyUp},
    {"unbindable", Propagation, MS_UNBINDABLE},
};

static_assert(std::is_sorted(std::begin(kOptions), std::end(kOptions),
                             [](const auto& a, const auto& b) { return a.name < b.name; }));

}  // namespace

const MountOption* find_mount_option(std::string_view name) {
  auto at = std::lower_bound(std::begin(kOptions), std::end(kOptions), name,
                             [](const auto& a, std::string_view b) { return a.name < b; });
  return at != std::end(kOptions) && at->name == name ? at : nullptr;
}

std::vector<std::string> mount_option_names() {
  std::vector<std::string> names;
  for (const MountOption& option : kOptions)
    if (option.effect != Refused) names.emplace_back(option.name);
  return names;
}

}  // namespace runner::oci
