#include "isolate/copy_up.h"

#include <fcntl.h>
#include <limits.h>
#include <sys/stat.h>
#include <unistd.h>

#include <string>

#include "isolate/sys/error.h"
#include "isolate/sys/fd.h"
#include "isolate/sys/file.h"
#include "isolate/sys/paths.h"

namespace isolate {

using namespace sys;

namespace {

constexpr int kDeepest = 64;  // folders in folders: an image may hold more than a stack takes

void take_owner(int place, const char* name, const struct stat& info) {
  check(::fchownat(place, name, info.st_uid, info.st_gid, AT_SYMLINK_NOFOLLOW), "give {} its owner", name);
}

void copy_file(int from, int to, const char* name, const struct stat& info) {
  Fd source(check(::openat(from, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC), "open {}", name));
  Fd copy(check(::openat(to, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600), "make {}", name));
  char block[65536];
  for (ssize_t got; (got = check(::read(source.get(), block, sizeof block), "read {}", name)) > 0;)
    write_all(copy.get(), {block, static_cast<std::size_t>(got)});
  take_owner(to, name, info);
  check(::fchmod(copy.get(), info.st_mode & 07777), "set the mode of {}", name);
}

void copy_link(int from, int to, const char* name, const struct stat& info) {
  char target[PATH_MAX];
  ssize_t size = check(::readlinkat(from, name, target, sizeof target - 1), "read link {}", name);
  target[size] = '\0';
  check(::symlinkat(target, to, name), "make link {}", name);
  take_owner(to, name, info);
}

void copy_folder(int from, int to, int depth) {
  if (depth > kDeepest) fail(ELOOP, "copy folders that lie {} deep into a tmpfs", depth);
  for (const std::string& entry : list_dir(fd_path(from))) {
    const char* name = entry.c_str();
    struct stat info;
    check(::fstatat(from, name, &info, AT_SYMLINK_NOFOLLOW), "look at {}", name);
    if (S_ISREG(info.st_mode)) copy_file(from, to, name, info);
    if (S_ISLNK(info.st_mode)) copy_link(from, to, name, info);
    if (!S_ISDIR(info.st_mode)) continue;
    check(::mkdirat(to, name, 0700), "make directory {}", name);
    Fd source(check(::openat(from, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC), "open directory {}", name));
    Fd copy(check(::openat(to, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC), "open directory {}", name));
    copy_folder(source.get(), copy.get(), depth + 1);
    take_owner(to, name, info);
    check(::fchmod(copy.get(), info.st_mode & 07777), "set the mode of {}", name);
  }
}

}  // namespace

void copy_up(int from, int to) {
  Fd source(check(::openat(from, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC), "open the folder below a tmpfs"));
  copy_folder(source.get(), to, 0);
}

}  // namespace isolate
