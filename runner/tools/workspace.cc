#include "runner/tools/workspace.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <limits.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <deque>
#include <vector>

#include "isolate/sys/error.h"
#include "isolate/sys/file.h"

namespace runner::tools {

using namespace isolate::sys;

namespace {

// "a//b/./c/" -> "a/b/c". `..` stays: what it leads to depends on symbolic links, and is for the kernel to say.
std::string tidy(const std::string& path) {
  std::string clean;
  for (std::size_t at = 0; at < path.size();) {
    std::size_t end = std::min(path.find('/', at), path.size());
    std::string part = path.substr(at, end - at);
    if (!part.empty() && part != ".") clean += (clean.empty() ? "" : "/") + part;
    at = end + 1;
  }
  return clean.empty() ? "." : clean;
}

}  // namespace

void refuse(int code, const std::string& path) {
  switch (code) {
    case EXDEV:
      throw Refused(fmt::format("{} leads out of the workspace, by '..' or by a symbolic link that is absolute or points outside", path));
    case ELOOP:
      throw Refused(fmt::format("{} goes through symbolic links in a circle, or through one of /proc", path));
    case ENXIO:
      throw Refused(fmt::format("{} is a FIFO, a socket or a device, not a regular file", path));
    default:
      throw Refused(fmt::format("{}: {}", path, error_text(code)));
  }
}

std::string kind_of(mode_t mode) {
  if (S_ISREG(mode)) return "a regular file";
  if (S_ISDIR(mode)) return "a directory";
  if (S_ISLNK(mode)) return "a symbolic link";
  if (S_ISFIFO(mode)) return "a FIFO";
  if (S_ISSOCK(mode)) return "a socket";
  return "a device";
}

// O_RDONLY, not O_PATH: restoring from a snapshot opens it again, and that is the common way.
Workspace::Workspace(const std::string& path) : path_("/" + tidy(path)), top_(isolate::sys::open_file(path_, O_RDONLY | O_DIRECTORY)) {}

std::string Workspace::relative(const std::string& path) const {
  if (path.empty()) throw Refused("the path is empty");
  if (path.size() >= PATH_MAX) throw Refused(fmt::format("the path has more than {} bytes", PATH_MAX - 1));
  if (path.find('\0') != std::string::npos) throw Refused("the path has a NUL byte in it");
  std::string clean = tidy(path);
  if (path[0] != '/') return clean;
  if ("/" + clean == path_) return ".";
  std::string prefix = path_.substr(1) + "/";
  if (path_ != "/" && clean.compare(0, prefix.size(), prefix) != 0) throw Refused(fmt::format("{} is outside the workspace {}", path, path_));
  return path_ == "/" ? clean : clean.substr(prefix.size());
}

// Step by step, since a session's filter refuses openat2(2), whose RESOLVE_BENEATH would do this: it could make set-user-ID files unseen. No step
// follows a link or goes up by the kernel's '..', so a rename that races with it cannot lead out.
int Workspace::open_beneath(const std::string& relative, int flags, mode_t mode) const {
  constexpr int kMostLinks = 40;
  std::vector<Fd> way;  // directories below the top that were gone into
  std::deque<std::string> left;
  auto put_first = [&](const std::string& path) {
    std::vector<std::string> parts;
    for (std::size_t at = 0; at < path.size();) {
      std::size_t end = std::min(path.find('/', at), path.size());
      if (end > at && path.substr(at, end - at) != ".") parts.push_back(path.substr(at, end - at));
      at = end + 1;
    }
    left.insert(left.begin(), parts.begin(), parts.end());
  };
  auto fails = [](int code) {
    errno = code;
    return -1;
  };
  put_first(relative);
  for (int links = 0;;) {
    int here = way.empty() ? top_.get() : way.back().get();
    if (left.empty()) return ::openat(here, ".", flags | O_CLOEXEC, mode);
    std::string name = std::move(left.front());
    left.pop_front();
    if (name == "..") {
      if (way.empty()) return fails(EXDEV);
      way.pop_back();
      continue;
    }
    bool last = left.empty();
    Fd next(::openat(here, name.c_str(), (last ? flags : O_PATH) | O_NOFOLLOW | O_CLOEXEC, mode));
    int error = errno;
    struct stat info{};
    bool is_link = next ? ::fstat(next.get(), &info) == 0 && S_ISLNK(info.st_mode)
                        : (error == ELOOP || error == ENOTDIR) && ::fstatat(here, name.c_str(), &info, AT_SYMLINK_NOFOLLOW) == 0 && S_ISLNK(info.st_mode);
    if (!is_link || (last && (flags & O_NOFOLLOW))) {
      if (!next) return fails(error);
      if (last) return next.release();
      if (!S_ISDIR(info.st_mode)) return fails(ENOTDIR);
      way.push_back(std::move(next));
      continue;
    }
    std::string target(PATH_MAX, '\0');
    ssize_t size = ::readlinkat(here, name.c_str(), target.data(), target.size());
    if (size == -1) return -1;
    target.resize(static_cast<std::size_t>(size));
    if (++links > kMostLinks) return fails(ELOOP);
    if (target.starts_with('/')) return fails(EXDEV);
    put_first(target);
  }
}

Fd Workspace::open(const std::string& path, int flags, mode_t mode) const {
  Fd fd(open_beneath(relative(path), flags, mode));
  if (!fd) refuse(errno, path);
  return fd;
}

Fd Workspace::open_file(const std::string& path, int flags, mode_t mode) const {
  Fd fd(open_beneath(relative(path), flags | O_NONBLOCK | O_NOCTTY, mode));
  if (!fd && errno == EISDIR) throw Refused(fmt::format("{} is a directory, not a regular file", path));
  if (!fd) refuse(errno, path);
  struct stat info;
  check(::fstat(fd.get(), &info), "look at {}", path);
  if (!S_ISREG(info.st_mode)) throw Refused(fmt::format("{} is {}, not a regular file", path, kind_of(info.st_mode)));
  return fd;
}

Place Workspace::place(const std::string& path) const {
  std::string clean = relative(path);
  std::size_t slash = clean.rfind('/');
  std::string name = slash == std::string::npos ? clean : clean.substr(slash + 1);
  if (name == ".") throw Refused(fmt::format("{} is the workspace itself", path));
  if (name == "..") throw Refused(fmt::format("{} ends in '..', which names no file", path));
  Fd folder(open_beneath(slash == std::string::npos ? "." : clean.substr(0, slash), O_PATH | O_DIRECTORY, 0));
  if (!folder) refuse(errno, path);
  return {std::move(folder), name};
}

Place Workspace::make_place(const std::string& path) const {
  std::string clean = relative(path);
  if (std::size_t slash = clean.rfind('/'); slash != std::string::npos) make_dir(clean.substr(0, slash));
  return place(path);
}

bool Workspace::make_dir(const std::string& path) const {
  std::string clean = relative(path);
  if (Fd(open_beneath(clean, O_PATH | O_DIRECTORY, 0))) return false;
  if (errno != ENOENT) refuse(errno, path);
  Fd parent = open(".", O_PATH | O_DIRECTORY);
  bool made = false;
  for (std::size_t at = 0; at < clean.size();) {
    std::size_t end = std::min(clean.find('/', at), clean.size());
    std::string name = clean.substr(at, end - at), way = clean.substr(0, end);
    Fd next(open_beneath(way, O_PATH | O_DIRECTORY, 0));
    if (!next && errno == ENOENT) {
      // `name` cannot be '..': that is always there.
      if (::mkdirat(parent.get(), name.c_str(), 0777) == -1 && errno != EEXIST) refuse(errno, way);
      made = true;
      next = Fd(open_beneath(way, O_PATH | O_DIRECTORY, 0));
    }
    if (!next) refuse(errno, way);
    parent = std::move(next);
    at = end + 1;
  }
  return made;
}

}  // namespace runner::tools
