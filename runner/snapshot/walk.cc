#include "runner/snapshot/walk.h"

#include <dirent.h>
#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <memory>

#include "isolate/sys/error.h"

namespace runner::snapshot {

using namespace isolate::sys;

namespace {

struct Level {
  std::string path;
  struct stat info;
  std::vector<std::string> below;  // directories that are not done
};

std::string join(const std::string& path, const std::string& name) {
  std::string joined = path == "." ? name : path + "/" + name;
  if (joined.size() > kLongestPath)
    fail(ENAMETOOLONG, "read {}... (its path has {} bytes)", joined.substr(0, 200), joined.size());
  return joined;
}

Fd open_below(int dir, const std::string& name, const std::string& path) {
  return Fd(
      check(::openat(dir, name.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC), "open directory {}", path));
}

Level enter(int self, const std::string& name, std::string path, Visitor& visitor) {
  Level level;
  level.path = std::move(path);
  check(::fstat(self, &level.info), "look at {}", level.path);
  visitor.enter(self, name, level.path, level.info);
  for (std::string& each : names_in(self, level.path)) {
    struct stat info;
    std::string child = join(level.path, each);
    check(::fstatat(self, each.c_str(), &info, AT_SYMLINK_NOFOLLOW), "look at {}", child);
    if (S_ISDIR(info.st_mode))
      level.below.push_back(std::move(each));
    else
      visitor.entry(self, each, child, info);
  }
  std::reverse(level.below.begin(), level.below.end());  // taken from the end
  return level;
}

}  // namespace

std::vector<std::string> names_in(int dir, const std::string& path) {
  Fd again(check(::openat(dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC), "open directory {}", path));
  DIR* raw = ::fdopendir(again.get());
  if (!raw) fail(errno, "list directory {}", path);
  again.release();
  std::unique_ptr<DIR, int (*)(DIR*)> list(raw, ::closedir);
  std::vector<std::string> names;
  errno = 0;
  while (dirent* entry = ::readdir(list.get())) {
    std::string name = entry->d_name;
    if (name != "." && name != "..") names.push_back(std::move(name));
  }
  if (errno) fail(errno, "list directory {}", path);
  std::sort(names.begin(), names.end());
  return names;
}

void walk(Fd top, Visitor& visitor) {
  std::vector<Level> levels;
  levels.push_back(enter(top.get(), ".", ".", visitor));
  for (Fd here = std::move(top);;) {
    Level& level = levels.back();
    if (!level.below.empty()) {
      std::string name = std::move(level.below.back()), path = join(level.path, name);
      level.below.pop_back();
      here = open_below(here.get(), name, path);
      levels.push_back(enter(here.get(), name, path, visitor));
      continue;
    }
    visitor.leave(here.get(), level.path, level.info);
    levels.pop_back();
    if (levels.empty()) return;
    here = open_below(here.get(), "..", levels.back().path);
    struct stat info;
    check(::fstat(here.get(), &info), "look at {}", levels.back().path);
    if (info.st_ino != levels.back().info.st_ino || info.st_dev != levels.back().info.st_dev)
      fail(ESTALE, "read {} (it was moved while it was read)", levels.back().path);
  }
}

void each_data(int fd, const std::string& path, std::uint64_t size, const std::function<void(std::uint64_t from, std::uint64_t to)>& take) {
  for (std::uint64_t at = 0; at < size;) {
    off_t data = ::lseek(fd, static_cast<off_t>(at), SEEK_DATA);
    if (data == -1 && errno == ENXIO) return;  // a hole to the end
    check(data, "find the data of {}", path);
    off_t hole = check(::lseek(fd, data, SEEK_HOLE), "find the holes of {}", path);
    at = static_cast<std::uint64_t>(hole);
    if (static_cast<std::uint64_t>(data) < size) take(static_cast<std::uint64_t>(data), std::min(at, size));
  }
}

}  // namespace runner::snapshot
