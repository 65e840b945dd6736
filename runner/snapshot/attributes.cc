#include "runner/snapshot/attributes.h"

#include <endian.h>
#include <linux/capability.h>
#include <linux/posix_acl.h>
#include <linux/posix_acl_xattr.h>
#include <sys/xattr.h>

#include <algorithm>
#include <cstring>
#include <stdexcept>

#include "isolate/sys/error.h"

namespace runner::snapshot {

using namespace isolate::sys;

namespace {

constexpr std::uint32_t kIds = 65536;
constexpr const char* kAcls[] = {"system.posix_acl_access", "system.posix_acl_default"};
constexpr const char* kOfAnUpper[] = {"trusted.overlay.origin", "trusted.overlay.impure", "trusted.overlay.nlink",
                                      "trusted.overlay.uuid", "trusted.overlay.upper"};

bool is_acl(const std::string& name) { return name == kAcls[0] || name == kAcls[1]; }

// A header of four bytes, then entries of eight, whose last four are an id in those of a named user or group.
void shift_acl(std::string& value, const Shift& shift, const std::string& path) {
  for (std::size_t at = sizeof(posix_acl_xattr_header); at + sizeof(posix_acl_xattr_entry) <= value.size();
       at += sizeof(posix_acl_xattr_entry)) {
    posix_acl_xattr_entry entry;
    std::memcpy(&entry, value.data() + at, sizeof entry);
    std::uint16_t tag = le16toh(entry.e_tag);
    if (tag != ACL_USER && tag != ACL_GROUP) continue;
    entry.e_id = htole32(shifted(le32toh(entry.e_id), shift, path));
    std::memcpy(value.data() + at, &entry, sizeof entry);
  }
}

// Only revision 3 has an id: that of the root of the user namespace in which it counts.
void shift_capability(std::string& value, const Shift& shift, const std::string& path) {
  vfs_ns_cap_data data;
  if (value.size() != sizeof data) return;
  std::memcpy(&data, value.data(), sizeof data);
  if ((le32toh(data.magic_etc) & VFS_CAP_REVISION_MASK) != VFS_CAP_REVISION_3) return;
  data.rootid = htole32(shifted(le32toh(data.rootid), shift, path));
  std::memcpy(value.data(), &data, sizeof data);
}

}  // namespace

bool is_kept(const std::string& name) {
  if (name.starts_with("trusted.overlay."))
    return std::find(std::begin(kOfAnUpper), std::end(kOfAnUpper), name) == std::end(kOfAnUpper);
  return name.starts_with("user.") || name == "security.capability" || is_acl(name);
}

Attributes read_attributes(int fd, const std::string& path) {
  char names[65536];  // as large as the kernel lets it be
  ssize_t length = ::flistxattr(fd, names, sizeof names);
  if (length == 0 || (length == -1 && errno == ENOTSUP)) return {};
  check(length, "list the attributes of {}", path);
  Attributes attributes;
  for (const char* at = names; at < names + length; at += std::strlen(at) + 1) {
    std::string name = at, value(65536, '\0');
    if (!is_kept(name)) continue;
    value.resize(static_cast<std::size_t>(
        check(::fgetxattr(fd, at, value.data(), value.size()), "read attribute {} of {}", name, path)));
    attributes.emplace_back(std::move(name), std::move(value));
  }
  std::sort(attributes.begin(), attributes.end());
  return attributes;
}

void write_attributes(int fd, const Attributes& attributes, const std::string& path) {
  for (const auto& [name, value] : attributes)
    if (::fsetxattr(fd, name.c_str(), value.data(), value.size(), 0) == -1)
      fail(errno, "set attribute {} of {}{}", name, path,
           errno == ENOTSUP ? " (the file system of the snapshots has none of that kind)" : "");
}

std::uint32_t shifted(std::uint32_t id, const Shift& shift, const std::string& path) {
  constexpr std::uint32_t kNobody = 65534;
  if (id >= shift.from && id - shift.from < kIds) return id - shift.from + shift.to;
  if (shift.strangers) return kNobody + shift.to;
  throw std::runtime_error(fmt::format("copy {}: its id {} is not among the session's, {} to {}", path, id, shift.from,
                                       shift.from + kIds - 1));
}

void shift_ids(Attributes& attributes, const Shift& shift, const std::string& path) {
  for (auto& [name, value] : attributes) {
    if (is_acl(name)) shift_acl(value, shift, path);
    if (name == "security.capability") shift_capability(value, shift, path);
  }
}

}  // namespace runner::snapshot
