#include "isolate/sys/paths.h"

#include <fcntl.h>
#include <linux/magic.h>
#include <linux/openat2.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <climits>

#include "isolate/sys/error.h"

namespace isolate::sys {

namespace {

int openat2(int dir, const std::string& path, std::uint64_t flags, std::uint64_t resolve) {
  open_how how{};
  how.flags = flags | O_CLOEXEC;
  how.resolve = resolve;
  // EAGAIN: a rename raced with RESOLVE_IN_ROOT. A hostile loop of renames must not make us spin for ever.
  for (int tries = 0; tries < 1000; ++tries) {
    long fd = ::syscall(SYS_openat2, dir, path.c_str(), &how, sizeof how);
    if (fd != -1 || (errno != EAGAIN && errno != EINTR)) return static_cast<int>(fd);
  }
  return -1;
}

std::uint64_t resolve_flags(Links links) {
  return RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS | (links == Links::Refuse ? RESOLVE_NO_SYMLINKS : 0);
}

// openat2 with IN_ROOT takes "/x" as "x below root"; "" and "/" are the root itself.
std::string below(const std::string& path) {
  std::size_t start = path.find_first_not_of('/');
  return start == std::string::npos ? "." : path.substr(start);
}

}  // namespace

Fd open_below(int root, const std::string& path, Links links) {
  return Fd(check(openat2(root, below(path), O_PATH, resolve_flags(links)), "open {} inside the root", path));
}

Fd find_below(int root, const std::string& path, Links links) {
  int fd = openat2(root, below(path), O_PATH, resolve_flags(links));
  if (fd == -1 && (errno == ENOENT || errno == ENOTDIR)) return Fd();
  return Fd(check(fd, "open {} inside the root", path));
}

namespace {

// Where `path` leads when what is missing is made: without a link, so that links to what is not there yet are no obstacle, as in images whose
// /etc/resolv.conf leads into /run. Taken apart by hand, since the kernel resolves only what is there. Who changes a link meanwhile wins
// nothing: the result is opened with all links refused.
std::string resolve_missing(int root, const std::string& path) {
  std::string real, rest = path;
  for (int links = 0; !rest.empty();) {
    std::size_t start = rest.find_first_not_of('/');
    if (start == std::string::npos) break;
    std::size_t end = std::min(rest.find('/', start), rest.size());
    std::string name = rest.substr(start, end - start);
    rest.erase(0, end);
    if (name == ".") continue;
    if (name == "..") {
      real.erase(std::min(real.rfind('/'), real.size()));
      continue;
    }
    char target[PATH_MAX];
    Fd folder = find_below(root, real, Links::Refuse);
    ssize_t size = folder ? ::readlinkat(folder.get(), name.c_str(), target, sizeof target) : -1;
    if (size == -1) {
      real += "/" + name;
      continue;
    }
    struct statfs info;
    check(::fstatfs(folder.get(), &info), "look at {} inside the root", real);
    // What a link of /proc says is not where it leads, and is the host's (CVE-2024-21626).
    if (info.f_type == PROC_SUPER_MAGIC || ++links > 40) fail(ELOOP, "open {} inside the root", path);
    if (target[0] == '/') real.clear();
    rest.insert(0, std::string(target, static_cast<std::size_t>(size)));
  }
  return real.empty() ? "/" : real;
}

}  // namespace

Fd make_below(int root, const std::string& path, Make make, Links links) {
  if (Fd found = find_below(root, path, links)) return found;
  std::string clean = clean_path(path);
  std::size_t slash = clean.rfind('/');
  std::string name = clean.substr(slash + 1);
  // The parent was resolved inside the root; the last name is made in it without following anything.
  Fd parent = make_below(root, slash == 0 ? "/" : clean.substr(0, slash), Make::Directory, links);
  bool directory = make == Make::Directory;
  int done = directory ? ::mkdirat(parent.get(), name.c_str(), 0755) : Fd(::openat(parent.get(), name.c_str(), O_CREAT | O_EXCL | O_WRONLY | O_NOFOLLOW | O_CLOEXEC, 0644)).get();
  if (done == -1 && errno != EEXIST) fail(errno, "make {} {} inside the root", directory ? "directory" : "file", path);
  // There is something that leads nowhere: a link.
  if (done == -1 && links == Links::InRoot) return make_below(root, resolve_missing(root, path), make, Links::Refuse);
  // Without O_NOFOLLOW: with it, O_PATH would open a link that somebody put there just now.
  Fd made(openat2(parent.get(), name, O_PATH, RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS));
  check(made.get(), "open {} inside the root", path);
  return made;
}

std::string clean_path(const std::string& path) {
  std::string clean;
  for (std::size_t at = 0; at < path.size();) {
    std::size_t end = std::min(path.find('/', at), path.size());
    std::string part = path.substr(at, end - at);
    if (part == "..") fail(EINVAL, "use path {} (it may not contain '..')", path);
    if (!part.empty() && part != ".") clean += "/" + part;
    at = end + 1;
  }
  return clean.empty() ? "/" : clean;
}

std::string fd_path(int fd) { return fmt::format("/proc/self/fd/{}", fd); }

}  // namespace isolate::sys
