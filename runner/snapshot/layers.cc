#include "runner/snapshot/layers.h"

#include <fcntl.h>
#include <limits.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <map>
#include <memory>
#include <stdexcept>
#include <utility>

#include "isolate/sys/error.h"
#include "isolate/sys/file.h"
#include "runner/snapshot/attributes.h"
#include "runner/snapshot/walk.h"

namespace runner::snapshot {

using namespace isolate::sys;

namespace {

constexpr std::size_t kChunk = 256 << 10;

bool is_no_way_to_copy(int code) {
  return code == EXDEV || code == EINVAL || code == EOPNOTSUPP || code == ENOSYS || code == ENOTTY;
}

bool is_whiteout(const struct stat& info) { return S_ISCHR(info.st_mode) && info.st_rdev == makedev(0, 0); }

class Copier : public Visitor {
 public:
  Copier(Fd to, const Shift& shift) : top_(std::move(to)), shift_(shift) {}

  void enter(int self, const std::string& name, const std::string& path, const struct stat& info) override {
    if (path == ".") {
      here_ = Fd(check(::openat(top_.get(), ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC), "open the new layer"));
      return;
    }
    ++copied_.files;
    check(::mkdirat(here_.get(), name.c_str(), 0700), "make directory {}", path);
    here_ = open_here(name, path);
  }

  // Only now: a mode may forbid what was to come, children inherit an ACL, and they change the time.
  void leave(int self, const std::string& path, const struct stat& info) override {
    finish(self, here_.get(), path, info);
    if (path != ".") here_ = open_here("..", path);
  }

  void entry(int dir, const std::string& name, const std::string& path, const struct stat& info) override {
    ++copied_.files;
    // All whiteouts of a layer are one inode; each is made for itself. They belong to whoever mounted the overlay.
    if (is_whiteout(info)) return check_void(::mknodat(here_.get(), name.c_str(), S_IFCHR, makedev(0, 0)), path);
    if (info.st_nlink > 1) {
      auto [first, is_new] = linked_.emplace(std::pair(info.st_dev, info.st_ino), path);
      if (!is_new) {
        check(::linkat(top_.get(), first->second.c_str(), here_.get(), name.c_str(), 0), "link {} to {}", path,
              first->second);
        return;
      }
    }
    if (S_ISREG(info.st_mode)) return file(dir, name, path, info);
    if (S_ISLNK(info.st_mode)) {
      char target[PATH_MAX + 1];
      ssize_t length = check(::readlinkat(dir, name.c_str(), target, sizeof target - 1), "read link {}", path);
      target[length] = '\0';
      check_void(::symlinkat(target, here_.get(), name.c_str()), path);
    } else if (S_ISFIFO(info.st_mode) || S_ISSOCK(info.st_mode)) {
      check_void(::mknodat(here_.get(), name.c_str(), (info.st_mode & S_IFMT) | 0600, 0), path);
    } else {
      throw std::runtime_error(fmt::format("copy {}: it is a device ({} {}:{}), which no snapshot may hold", path,
                                           S_ISBLK(info.st_mode) ? 'b' : 'c', major(info.st_rdev),
                                           minor(info.st_rdev)));
    }
    own(here_.get(), name, path, info);
    if (!S_ISLNK(info.st_mode))
      check(::fchmodat(here_.get(), name.c_str(), info.st_mode & 07777, 0), "set the mode of {}", path);
    timespec times[] = {info.st_atim, info.st_mtim};
    check(::utimensat(here_.get(), name.c_str(), times, AT_SYMLINK_NOFOLLOW), "set the time of {}", path);
  }

  CopiedLayer copied() const {
    CopiedLayer copied = copied_;
    copied.cloned = clones_ && cloned_;
    return copied;
  }

 private:
  static void check_void(int result, const std::string& path) { check(result, "make {}", path); }

  Fd open_here(const std::string& name, const std::string& path) {
    return Fd(check(::openat(here_.get(), name.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC),
                    "open the new directory {}", path));
  }

  void own(int dir, const std::string& name, const std::string& path, const struct stat& info) {
    uid_t uid = shifted(info.st_uid, shift_, path);
    gid_t gid = shifted(info.st_gid, shift_, path);
    check(::fchownat(dir, name.c_str(), uid, gid, AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH), "set the owner of {}", path);
  }

  // Owner first, for a change of it clears set-id bits and capabilities.
  void finish(int from, int to, const std::string& path, const struct stat& info) {
    own(to, "", path, info);
    check(::fchmod(to, info.st_mode & 07777), "set the mode of {}", path);
    Attributes attributes = read_attributes(from, path);
    shift_ids(attributes, shift_, path);
    write_attributes(to, attributes, path);
    timespec times[] = {info.st_atim, info.st_mtim};
    check(::futimens(to, times), "set the time of {}", path);
  }

  void file(int dir, const std::string& name, const std::string& path, const struct stat& info) {
    Fd from(check(::openat(dir, name.c_str(), O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC), "open {}", path));
    Fd to(check(::openat(here_.get(), name.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600),
                "make {}", path));
    copy(from.get(), to.get(), path, static_cast<std::uint64_t>(info.st_size));
    finish(from.get(), to.get(), path, info);
  }

  void copy(int from, int to, const std::string& path, std::uint64_t size) {
    if (size == 0) return;
    if (clones_) {
      if (::ioctl(to, FICLONE, from) == 0) return cloned_ = true, void();
      if (!is_no_way_to_copy(errno)) fail(errno, "clone {}", path);
      clones_ = false;
    }
    each_data(from, path, size, [&](std::uint64_t begin, std::uint64_t end) { copy_range(from, to, path, begin, end); });
    check(::ftruncate(to, static_cast<off_t>(size)), "set the size of {}", path);
  }

  void copy_range(int from, int to, const std::string& path, std::uint64_t at, std::uint64_t end) {
    while (at < end) {
      ssize_t got;
      if (ranges_) {
        off_t in = static_cast<off_t>(at), out = in;
        got = ::copy_file_range(from, &in, to, &out, end - at, 0);
        if (got == -1 && is_no_way_to_copy(errno)) {
          ranges_ = false;
          continue;
        }
      } else {
        got = ::pread(from, bytes_.get(), std::min<std::uint64_t>(kChunk, end - at), static_cast<off_t>(at));
      }
      if (got == -1 && errno == EINTR) continue;
      if (check(got, "copy {}", path) == 0)
        throw std::runtime_error(fmt::format("copy {}: it became shorter meanwhile: was its session frozen?", path));
      for (ssize_t done = ranges_ ? got : 0; done < got;)
        done += check(
            ::pwrite(to, bytes_.get() + done, static_cast<std::size_t>(got - done), static_cast<off_t>(at) + done),
            "write {}", path);
      at += static_cast<std::uint64_t>(got);
      copied_.bytes += static_cast<std::uint64_t>(got);
    }
  }

  Fd top_, here_;
  Shift shift_;
  CopiedLayer copied_;
  bool clones_ = true, ranges_ = true, cloned_ = false;
  std::map<std::pair<dev_t, ino_t>, std::string> linked_;
  std::unique_ptr<char[]> bytes_ = std::make_unique_for_overwrite<char[]>(kChunk);
};

std::uint64_t now_us() {
  timespec now;
  ::clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<std::uint64_t>(now.tv_sec) * 1'000'000 + static_cast<std::uint64_t>(now.tv_nsec) / 1000;
}

}  // namespace

CopiedLayer copy_layer(const std::string& from, const std::string& to, std::uint32_t first_id) {
  return copy_layer(from, to, Shift{first_id, 0});
}

CopiedLayer copy_layer(const std::string& from, const std::string& to, const Shift& shift) {
  std::uint64_t begin = now_us();
  Copier copier(open_file(to, O_RDONLY | O_DIRECTORY), shift);
  walk(open_file(from, O_RDONLY | O_DIRECTORY), copier);
  CopiedLayer copied = copier.copied();
  copied.ms = (now_us() - begin) / 1000;
  return copied;
}

Said look_in_layer(const std::string& layer, const std::string& path) {
  bool opaque = false;
  for (std::size_t slash = path.find('/', 1);; slash = path.find('/', slash + 1)) {
    std::string here = layer + path.substr(0, slash);
    struct stat info;
    if (::lstat(here.c_str(), &info) == -1) return opaque ? Said::Gone : Said::Nothing;
    if (is_whiteout(info)) return Said::Gone;
    if (slash == std::string::npos) return Said::Here;
    if (!S_ISDIR(info.st_mode)) return Said::Gone;
    char value;
    opaque = opaque || (::lgetxattr(here.c_str(), "trusted.overlay.opaque", &value, 1) == 1 && value == 'y');
  }
}

}  // namespace runner::snapshot
