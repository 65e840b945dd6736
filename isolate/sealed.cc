#include "isolate/sealed.h"

#include <fcntl.h>
#include <limits.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <unistd.h>

#include "isolate/sys/error.h"
#include "isolate/sys/file.h"
#include "isolate/sys/mount.h"

namespace isolate {

using namespace sys;

namespace {

Fd copy_to_memory(const Fd& file, off_t size, const std::string& path) {
  Fd memory(check(::memfd_create("runner", MFD_CLOEXEC | MFD_ALLOW_SEALING), "make a memory file"));
  while (size > 0) size -= check(::sendfile(memory.get(), file.get(), nullptr, static_cast<std::size_t>(size)), "copy {}", path);
  check(::fcntl(memory.get(), F_ADD_SEALS, F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE), "seal a copy of {}", path);
  return memory;
}

}  // namespace

Fd open_sealed(const std::string& path) {
  if (::geteuid() == 0) {
    try {
      Fd mount = copy_mount(AT_FDCWD, path, false);
      set_mount(mount.get(), MOUNT_ATTR_RDONLY, 0, false);
      return mount;
    } catch (const SystemError& error) {
      if (error.code() != EPERM && error.code() != EINVAL) throw;  // root of a user namespace, or a locked mount: copied below
    }
  }
  Fd file = open_file(path, O_RDONLY);
  struct stat info;
  check(::fstat(file.get(), &info), "look at {}", path);
  bool writable = info.st_uid == ::geteuid() || ::faccessat(AT_FDCWD, path.c_str(), W_OK, AT_EACCESS) == 0;
  return writable ? copy_to_memory(file, info.st_size, path) : std::move(file);
}

std::string program_path() {
  char path[PATH_MAX];
  ssize_t size = check(::readlink("/proc/self/exe", path, sizeof path), "find the path of this program");
  return std::string(path, static_cast<std::size_t>(size));
}

}  // namespace isolate
