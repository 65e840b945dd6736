#include "isolate/sys/file.h"

#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include <algorithm>
#include <memory>

#include "isolate/sys/error.h"
#include "isolate/sys/paths.h"

namespace isolate::sys {

namespace {

std::string read_to_end(int fd, const std::string& name, std::size_t limit) {
  std::string text;
  for (;;) {
    std::size_t old = text.size();
    text.resize(old + 4096);
    ssize_t got = ::read(fd, text.data() + old, 4096);
    if (got == -1 && errno == EINTR) got = 0;
    else if (check(got, "read {}", name) == 0) {
      text.resize(old);
      return text;
    }
    text.resize(old + static_cast<std::size_t>(got));
    if (text.size() > limit) fail(EFBIG, "read {} (more than {} bytes)", name, limit);
  }
}

std::vector<std::string> names_in(int dir_fd, const std::string& path) {
  DIR* raw = ::fdopendir(dir_fd);
  if (!raw) {
    ::close(dir_fd);
    fail(errno, "list directory {}", path);
  }
  std::unique_ptr<DIR, int (*)(DIR*)> dir(raw, ::closedir);
  std::vector<std::string> names;
  while (dirent* entry = ::readdir(dir.get())) {
    std::string_view name = entry->d_name;
    if (name != "." && name != "..") names.emplace_back(name);
  }
  std::sort(names.begin(), names.end());
  return names;
}

// A tree that is removed. Programs of a sandbox nest directories without end: neither descriptors nor the stack may follow them.
struct Removal {
  int top;
  dev_t device;
  unsigned moved = 0;
};
constexpr int kDeepest = 64;

void move_to_top(Removal& removal, int parent, const std::string& name) {
  while (::renameat2(parent, name.c_str(), removal.top, fmt::format(".deep-{}", removal.moved++).c_str(), RENAME_NOREPLACE) == -1)
    if (errno != EEXIST) fail(errno, "move directory {} up to remove it", name);
}

Fd open_to_remove(int parent, const std::string& name) {
  auto open = [&](int flags) { return Fd(::openat(parent, name.c_str(), flags | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC)); };
  Fd dir = open(O_RDONLY);
  // An ordinary user's own, without the bits.
  if (Fd place = dir || errno != EACCES ? Fd() : open(O_PATH); place && ::chmod(fd_path(place.get()).c_str(), 0700) == 0) dir = open(O_RDONLY);
  return dir;
}

void remove_below(Removal& removal, int parent, const std::string& name, int depth) {
  struct stat info;
  if (::fstatat(parent, name.c_str(), &info, AT_SYMLINK_NOFOLLOW) == -1) {
    if (errno == ENOENT) return;
    fail(errno, "look at {}", name);
  }
  if (S_ISDIR(info.st_mode) && info.st_dev == removal.device) {
    Fd dir = open_to_remove(parent, name);
    if (depth == kDeepest) return move_to_top(removal, parent, name);
    if (dir) {
      for (const std::string& below : names_in(check(::fcntl(dir.get(), F_DUPFD_CLOEXEC, 0), "copy descriptor"), name))
        remove_below(removal, dir.get(), below, depth + 1);
    }
    if (::unlinkat(parent, name.c_str(), AT_REMOVEDIR) == -1 && errno != ENOENT) fail(errno, "remove directory {}", name);
    return;
  }
  if (::unlinkat(parent, name.c_str(), S_ISDIR(info.st_mode) ? AT_REMOVEDIR : 0) == -1 && errno != ENOENT)
    fail(errno, "remove {}", name);
}

}  // namespace

Fd open_file(const std::string& path, int flags, mode_t mode) {
  return Fd(check(::open(path.c_str(), flags | O_CLOEXEC, mode), "open {}", path));
}

Fd open_dir(const std::string& path) {
  return Fd(check(::open(path.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC), "open directory {}", path));
}

std::optional<Fd> find_dir(const std::string& path) {
  int fd = ::open(path.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC);
  if (fd == -1 && (errno == ENOENT || errno == ENOTDIR)) return std::nullopt;
  return Fd(check(fd, "open directory {}", path));
}

std::string read_file(const std::string& path, std::size_t limit) { return read_file_at(AT_FDCWD, path, limit); }

std::string read_file_at(int dir, const std::string& name, std::size_t limit) {
  Fd fd(check(::openat(dir, name.c_str(), O_RDONLY | O_CLOEXEC), "open {}", name));
  return read_to_end(fd.get(), name, limit);
}

std::optional<std::string> find_file(const std::string& path, std::size_t limit) {
  return find_file_at(AT_FDCWD, path, limit);
}

std::optional<std::string> find_file_at(int dir, const std::string& name, std::size_t limit) {
  Fd fd(::openat(dir, name.c_str(), O_RDONLY | O_CLOEXEC));
  // ENODEV, ESRCH: the cgroup or the process that it tells of went away, perhaps after the open.
  auto is_gone = [](int code) { return code == ENOENT || code == ENOTDIR || code == ENODEV || code == ESRCH; };
  if (!fd && is_gone(errno)) return std::nullopt;
  check(fd.get(), "open {}", name);
  try {
    return read_to_end(fd.get(), name, limit);
  } catch (const SystemError& error) {
    if (!is_gone(error.code())) throw;
    return std::nullopt;
  }
}

std::optional<std::string> find_link(const std::string& path) {
  char target[PATH_MAX];
  ssize_t size = ::readlink(path.c_str(), target, sizeof target);
  if (size < 0) return std::nullopt;
  return std::string(target, static_cast<std::size_t>(size));
}

void write_file(const std::string& path, std::string_view text) { write_file_at(AT_FDCWD, path, text); }

void write_file_at(int dir, const std::string& name, std::string_view text) {
  Fd fd(check(::openat(dir, name.c_str(), O_WRONLY | O_CLOEXEC), "open {} for writing", name));
  check(::write(fd.get(), text.data(), text.size()), "write to {} the value '{}'", name, text);
}

void write_all(int fd, std::string_view bytes) {
  while (!bytes.empty()) {
    ssize_t done = ::write(fd, bytes.data(), bytes.size());
    if (done == -1 && errno == EINTR) continue;
    bytes.remove_prefix(static_cast<std::size_t>(check(done, "write to descriptor {}", fd)));
  }
}

Fd memory_file(const char* name, std::string_view bytes) {
  Fd memory(check(::memfd_create(name, MFD_CLOEXEC), "make a memory file"));
  write_all(memory.get(), bytes);
  check(::lseek(memory.get(), 0, SEEK_SET), "rewind a memory file");
  return memory;
}

void replace_file(const std::string& path, std::string_view text, mode_t mode, bool durable) {
  std::string aside = fmt::format("{}.new.{}", path, ::getpid());
  try {
    Fd fd = open_file(aside, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW, mode);
    write_all(fd.get(), text);
    if (durable) check(::fsync(fd.get()), "sync {}", aside);
    check(::rename(aside.c_str(), path.c_str()), "rename {} to {}", aside, path);
  } catch (...) {
    ::unlink(aside.c_str());
    throw;
  }
  if (durable) {
    std::string folder = path.substr(0, path.rfind('/') == std::string::npos ? 0 : path.rfind('/'));
    Fd dir = open_file(folder.empty() ? "." : folder, O_RDONLY | O_DIRECTORY);
    check(::fsync(dir.get()), "sync directory {}", folder);
  }
}

void make_dirs(const std::string& path, mode_t mode) {
  if (::mkdir(path.c_str(), mode) == 0 || errno == EEXIST) return;
  std::size_t slash = path.rfind('/');
  if (errno != ENOENT || slash == 0 || slash == std::string::npos) fail(errno, "make directory {}", path);
  make_dirs(path.substr(0, slash), mode);
  if (::mkdir(path.c_str(), mode) == -1 && errno != EEXIST) fail(errno, "make directory {}", path);
}

std::vector<std::string> list_dir(const std::string& path) {
  int fd = ::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd == -1 && errno == ENOENT) return {};
  return names_in(check(fd, "open directory {}", path), path);
}

void remove_tree(const std::string& path) {
  struct stat info;
  if (::lstat(path.c_str(), &info) == -1) {
    if (errno == ENOENT) return;
    fail(errno, "look at {}", path);
  }
  Fd top = S_ISDIR(info.st_mode) ? open_to_remove(AT_FDCWD, path) : Fd();
  Removal removal{top.get(), info.st_dev};
  auto names = [&] { return names_in(check(::openat(top.get(), ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC), "open directory {}", path), path); };
  // Again while something was moved up.
  for (std::vector<std::string> list; top && !(list = names()).empty();)
    for (const std::string& name : list) remove_below(removal, top.get(), name, 1);
  remove_below(removal, AT_FDCWD, path, 0);
}

}  // namespace isolate::sys
