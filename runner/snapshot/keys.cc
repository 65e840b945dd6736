#include "runner/snapshot/keys.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include "isolate/sys/error.h"
#include "isolate/sys/file.h"

namespace runner::snapshot {

using namespace isolate::sys;

namespace {

constexpr std::size_t kBytes = 32;

std::string random_key() {
  std::string bytes(kBytes, '\0');
  if (::getrandom(bytes.data(), kBytes, 0) != static_cast<ssize_t>(kBytes)) fail(errno, "get random bytes for a key");
  return bytes;
}

void sync_folder_of(const std::string& path) {
  std::string folder = path.substr(0, path.rfind('/'));
  check(::fsync(open_file(folder, O_RDONLY | O_DIRECTORY).get()), "sync directory {}", folder);
}

// By one at a time: the rest of one that was killed is overwritten.
void write_aside(int fd, const std::string& aside, const std::string& key) {
  check(::ftruncate(fd, 0), "empty {}", aside);
  check(::pwrite(fd, key.data(), key.size(), 0), "write {}", aside);
  check(::fsync(fd), "sync {}", aside);
}

void replace(const std::string& path, const std::string& key) {
  std::string aside = path + ".next";
  Fd file = open_file(aside, O_WRONLY | O_CREAT | O_NOFOLLOW, 0600);
  write_aside(file.get(), aside, key);
  check(::rename(aside.c_str(), path.c_str()), "rename {} to {}", aside, path);
  sync_folder_of(path);
}

std::optional<std::string> find_key_file(const std::string& path) {
  Fd file(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK));
  if (!file && errno == ENOENT) return std::nullopt;
  check(file.get(), "open the key {}", path);
  struct stat info;
  check(::fstat(file.get(), &info), "look at the key {}", path);
  char bytes[kBytes + 1];
  if (!S_ISREG(info.st_mode) || check(::read(file.get(), bytes, sizeof bytes), "read the key {}", path) != kBytes)
    throw std::runtime_error(
        fmt::format("the key {} is no file of {} bytes: it was damaged, or is none", path, kBytes));
  if (info.st_mode & 077)
    throw std::runtime_error(fmt::format(
        "the key {} is open to others than its owner (mode {:04o}): whoever has read it can forge snapshots. "
        "`chmod 600` it, and `runner snapshot rotate-key` if that may have happened",
        path, info.st_mode & 07777));
  return std::string(bytes, kBytes);
}

}  // namespace

std::vector<std::string> Keys::accepted() const {
  std::vector<std::string> keys;
  for (const std::string& path : {path_, path_ + ".old"})
    if (auto key = find_key_file(path); key && (keys.empty() || keys[0] != *key)) keys.push_back(std::move(*key));
  return keys;
}

std::string Keys::current() const {
  std::string aside = path_ + ".new";
  for (;;) {
    if (auto key = find_key_file(path_)) return *key;
    make_dirs(path_.substr(0, path_.rfind('/')), 0700);
    Fd file = open_file(aside, O_RDWR | O_CREAT | O_NOFOLLOW, 0600);
    while (::flock(file.get(), LOCK_EX) == -1)
      if (errno != EINTR) fail(errno, "lock {}", aside);
    struct stat ours, there;
    check(::fstat(file.get(), &ours), "look at {}", aside);
    if (::lstat(aside.c_str(), &there) == -1 || there.st_ino != ours.st_ino) continue;  // another caller was faster
    write_aside(file.get(), aside, random_key());
    if (::renameat2(AT_FDCWD, aside.c_str(), AT_FDCWD, path_.c_str(), RENAME_NOREPLACE) == -1) {
      if (errno != EEXIST) fail(errno, "rename {} to {}", aside, path_);
      ::unlink(aside.c_str());
    }
    sync_folder_of(path_);
  }
}

void Keys::begin_rotation() const {
  replace(path_ + ".old", current());  // killed behind this line: both files hold the same key, and nothing has begun
  replace(path_, random_key());
}

bool Keys::in_rotation() const { return accepted().size() > 1; }

void Keys::end_rotation() const {
  std::string old = path_ + ".old";
  if (::unlink(old.c_str()) == -1 && errno != ENOENT) fail(errno, "remove the old key {}", old);
  sync_folder_of(path_);
}

std::string read_key(const std::string& path) {
  auto key = find_key_file(path);
  if (!key) fail(ENOENT, "open the key {}", path);
  return *key;
}

}  // namespace runner::snapshot
