#include "isolate/sealed.h"

#include <fcntl.h>
#include <limits.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>

#include "isolate/sys/error.h"
#include "isolate/sys/file.h"
#include "isolate/sys/mount.h"

namespace isolate {

using namespace sys;

namespace {

constexpr off_t kSmall = 64 << 10;
#ifndef MFD_EXEC
constexpr unsigned MFD_EXEC = 0x10;  // since Linux 6.3, where vm.memfd_noexec can make the other kind the default
#endif

// Empty where the host forbids programs in memory: vm.memfd_noexec=2.
Fd copy_to_memory(const Fd& file, off_t size, const std::string& path) {
  std::string name = path.substr(path.rfind('/') + 1);
  Fd memory(::memfd_create(name.c_str(), MFD_CLOEXEC | MFD_ALLOW_SEALING | MFD_EXEC));
  if (!memory && errno == EINVAL) memory = Fd(::memfd_create(name.c_str(), MFD_CLOEXEC | MFD_ALLOW_SEALING));
  if (!memory && errno == EACCES) return memory;
  check(memory.get(), "make a memory file");
  while (size > 0) size -= check(::sendfile(memory.get(), file.get(), nullptr, static_cast<std::size_t>(size)), "copy {}", path);
  check(::fcntl(memory.get(), F_ADD_SEALS, F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE), "seal a copy of {}", path);
  return memory;
}

// No capability of a user namespace reaches a file whose owner has no id there; an access list shows in the group's bits.
bool may_be_written(const struct stat& info, const IdMap& inside) {
  bool owned = std::any_of(inside.uids.begin(), inside.uids.end(),
                           [&](const IdRange& r) { return info.st_uid >= r.outside && info.st_uid - r.outside < r.count; });
  return inside.empty() || owned || (info.st_mode & 022);
}

Fd read_only_mount(const std::string& path) {
  Fd mount = copy_mount(AT_FDCWD, path, false);
  set_mount(mount.get(), MOUNT_ATTR_RDONLY, 0, false);
  return mount;
}

}  // namespace

Fd open_sealed(const std::string& path, const IdMap& inside) {
  Fd file = open_file(path, O_RDONLY);
  struct stat info;
  check(::fstat(file.get(), &info), "look at {}", path);
  if (!may_be_written(info, inside)) return file;
  bool large = info.st_size > kSmall && ::geteuid() == 0;
  Fd copy = large ? Fd() : copy_to_memory(file, info.st_size, path);
  try {
    return copy ? std::move(copy) : read_only_mount(path);
  } catch (const SystemError& error) {
    if (!large || (error.code() != EPERM && error.code() != EINVAL)) throw;  // root of a user namespace, or a locked mount
  }
  if (Fd last = copy_to_memory(file, info.st_size, path)) return last;
  fail(EACCES, "execute a copy of {} (vm.memfd_noexec forbids it)", path);
}

std::string program_path() {
  char path[PATH_MAX];
  ssize_t size = check(::readlink("/proc/self/exe", path, sizeof path), "find the path of this program");
  return std::string(path, static_cast<std::size_t>(size));
}

}  // namespace isolate
