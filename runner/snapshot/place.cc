#include "runner/snapshot/place.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <charconv>

#include "isolate/sys/error.h"
#include "isolate/sys/file.h"

namespace runner::snapshot {

using namespace isolate::sys;

namespace {

bool flock_it(int fd, int operation, const std::string& path) {
  while (::flock(fd, operation) == -1) {
    if (errno == EWOULDBLOCK) return false;
    if (errno != EINTR) fail(errno, "lock {}", path);
  }
  return true;
}

}  // namespace

std::optional<Fd> lock_directory(const std::string& path, int operation) {
  Fd dir(::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
  if (!dir && (errno == ENOENT || errno == ENOTDIR || errno == ELOOP)) return std::nullopt;
  check(dir.get(), "open directory {}", path);
  if (!flock_it(dir.get(), operation, path)) return std::nullopt;
  struct stat locked, there;  // between the two calls it may have been renamed or removed
  check(::fstat(dir.get(), &locked), "look at {}", path);
  if (::lstat(path.c_str(), &there) == -1 || locked.st_ino != there.st_ino || locked.st_dev != there.st_dev)
    return std::nullopt;
  return dir;
}

Fd lock_store(const std::string& store, int operation) {
  Fd file = open_file(store + "/.lock", O_RDWR | O_CREAT | O_NOFOLLOW, 0600);
  flock_it(file.get(), operation, store + "/.lock");
  return file;
}

void write_new(const std::string& path, std::string_view text) {
  Fd file = open_file(path, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, 0600);
  for (std::size_t done = 0; done < text.size();) {
    ssize_t count = ::write(file.get(), text.data() + done, text.size() - done);
    if (count == -1 && errno == EINTR) continue;
    done += static_cast<std::size_t>(check(count, "write {}", path));
  }
  check(::fsync(file.get()), "sync {}", path);
}

void sync_directory(const std::string& path) {
  check(::fsync(open_file(path, O_RDONLY | O_DIRECTORY).get()), "sync directory {}", path);
}

std::uint64_t next_counter(const std::string& store) {
  std::string path = store + "/.counter";
  Fd file = open_file(path, O_RDWR | O_CREAT | O_NOFOLLOW, 0600);
  flock_it(file.get(), LOCK_EX, path);
  char text[20];
  std::uint64_t count = 0;
  ssize_t got = check(::pread(file.get(), text, sizeof text, 0), "read {}", path);
  if (got != 0) {
    auto [end, error] = std::from_chars(text, text + got, count);
    if (error != std::errc() || end != text + sizeof text)
      throw std::runtime_error(fmt::format(
          "{} was damaged: write there, as 20 digits, a number above all that `runner snapshot ls` shows", path));
  }
  std::string next = fmt::format("{:020}", ++count);  // always as long, and so in place
  check(::pwrite(file.get(), next.data(), next.size(), 0), "write {}", path);
  check(::fdatasync(file.get()), "sync {}", path);
  return count;
}

}  // namespace runner::snapshot
