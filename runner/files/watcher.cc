#include "runner/files/watcher.h"

#include <dirent.h>
#include <fcntl.h>
#include <fnmatch.h>
#include <sys/inotify.h>
#include <unistd.h>

#include <algorithm>
#include <set>
#include <stdexcept>

#include "isolate/sys/error.h"
#include "isolate/sys/paths.h"

namespace runner::files {

using namespace isolate::sys;
using Kind = Change::Kind;

namespace {

constexpr std::uint32_t kEvents = IN_CREATE | IN_DELETE | IN_MODIFY | IN_ATTRIB | IN_MOVED_FROM | IN_MOVED_TO;

bool matches(const std::vector<std::string>& patterns, const std::string& path) {
  std::size_t slash = path.rfind('/');
  std::string name = slash == std::string::npos ? path : path.substr(slash + 1);
  return std::any_of(patterns.begin(), patterns.end(), [&](const std::string& pattern) {
    return ::fnmatch(pattern.c_str(), (pattern.find('/') == std::string::npos ? name : path).c_str(), 0) == 0;
  });
}

bool same_time(const timespec& a, const timespec& b) { return a.tv_sec == b.tv_sec && a.tv_nsec == b.tv_nsec; }

}  // namespace

Watcher::Watcher(Fd directory, WatchOptions options, std::function<void(const Change&)> emit)
    : directory_(std::move(directory)), options_(std::move(options)), emit_(std::move(emit)) {
  inotify_ = Fd(::inotify_init1(IN_CLOEXEC | IN_NONBLOCK));
  if (!inotify_ && errno == EMFILE)
    throw std::runtime_error(
        "the user's limit of inotify instances is reached; raise the sysctl fs.inotify.max_user_instances");
  check(inotify_.get(), "make an inotify instance");
}

std::string Watcher::path_of(const Node& node, const std::string& name) const {
  std::string path = name;
  for (const Node* at = &node; at->parent; at = at->parent) path = at->name + (path.empty() ? "" : "/" + path);
  return path;
}

bool Watcher::excluded(const std::string& path) const { return matches(options_.exclude, path); }

void Watcher::tell(Kind kind, const std::string& path, bool directory, const std::string& to) {
  if (!options_.include.empty() && !matches(options_.include, path) && (to.empty() || !matches(options_.include, to)))
    return;
  if (kind == Kind::Modify) {
    if (!modified_.emplace(path, true).second) return;
  } else {
    modified_.clear();
  }
  emit_({kind, path, to, directory});
}

// By descriptor, so that no link can take the place of the directory; inotify_add_watch takes only names, hence fchdir.
void Watcher::watch(Node& node) {
  Fd dir = find_below(directory_.get(), path_of(node, ""), Links::Refuse);
  if (!dir) return;  // gone again: its parent's events tell
  check(::fchdir(dir.get()), "enter the watched directory");
  int watch = ::inotify_add_watch(inotify_.get(), ".",
                                  kEvents | IN_ONLYDIR | (node.parent ? 0 : IN_DELETE_SELF | IN_MOVE_SELF));
  if (watch == -1 && errno == ENOSPC)
    throw std::runtime_error(fmt::format(
        "the user's limit of inotify watches is reached with {} directories; exclude some, or raise the sysctl "
        "fs.inotify.max_user_watches",
        watches_.size()));
  if (watch == -1 && errno == ENOENT) return;
  check(::chdir("/"), "enter directory {}", "/");  // to stay would keep a file system from being unmounted
  node.watch = check(watch, "watch directory {}", path_of(node, ""));
  watches_[watch] = &node;
}

bool Watcher::look(const Node& node, const std::string& name, struct stat& info) const try {
  Fd dir = find_below(directory_.get(), path_of(node, ""), Links::Refuse);
  return dir && ::fstatat(dir.get(), name.c_str(), &info, AT_SYMLINK_NOFOLLOW) == 0;
} catch (const SystemError& error) {
  if (error.code() == ELOOP) return false;  // exchanged for a link: that is an event of its own
  throw;
}

void Watcher::compare(Node& node, bool told) {
  std::map<std::string, struct stat> there;
  {
    Fd place;
    try {
      place = find_below(directory_.get(), path_of(node, ""), Links::Refuse);
    } catch (const SystemError& error) {
      if (error.code() != ELOOP) throw;
    }
    int fd = place ? ::openat(place.get(), ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;
    if (place && fd == -1 && errno != ENOENT) fail(errno, "list directory {}", path_of(node, ""));
    std::unique_ptr<DIR, int (*)(DIR*)> list(fd == -1 ? nullptr : ::fdopendir(fd), ::closedir);
    while (dirent* entry = list ? ::readdir(list.get()) : nullptr) {
      std::string name = entry->d_name;
      struct stat info;
      if (name == "." || name == ".." || excluded(path_of(node, name))) continue;
      if (::fstatat(fd, name.c_str(), &info, AT_SYMLINK_NOFOLLOW) == 0) there[name] = info;
    }
  }
  std::vector<std::string> gone;
  for (const auto& [name, known] : node.known)
    if (auto it = there.find(name);
        it == there.end() || it->second.st_ino != known.inode || (it->second.st_mode ^ known.mode) & S_IFMT)
      gone.push_back(name);
  for (const std::string& name : gone) vanish(node, name);
  for (const auto& [name, info] : there) {
    auto known = node.known.find(name);
    if (known == node.known.end()) {
      appear(node, name, info, told);
    } else if (known->second.node) {
      compare(*known->second.node, told);
    } else if (info.st_size != known->second.size || info.st_mode != known->second.mode ||
               !same_time(info.st_mtim, known->second.mtime)) {
      change(node, name, false);
    }
  }
}

void Watcher::appear(Node& node, const std::string& name, const struct stat& info, bool told) {
  bool directory = S_ISDIR(info.st_mode);
  Known& known = node.known[name];
  known.inode = info.st_ino, known.mode = info.st_mode, known.size = info.st_size, known.mtime = info.st_mtim;
  if (told) tell(Kind::Create, path_of(node, name), directory);
  if (!directory || !options_.recursive) return;
  known.node = std::make_unique<Node>();
  known.node->parent = &node;
  known.node->name = name;
  try {
    watch(*known.node);
  } catch (const SystemError& error) {
    if (error.code() != ELOOP && error.code() != ENOTDIR) throw;
    return;
  }
  compare(*known.node, told);  // behind the watch: what comes between is told twice by the kernel and once by us
}

void Watcher::forget(Known& known) {
  if (!known.node) return;
  for (auto& [name, below] : known.node->known) forget(below);
  // A directory that is found under a new name keeps its watch, which then belongs to the new node.
  if (auto it = watches_.find(known.node->watch); it != watches_.end() && it->second == known.node.get()) {
    ::inotify_rm_watch(inotify_.get(), it->first);
    watches_.erase(it);
  }
  known.node.reset();
}

void Watcher::vanish(Node& node, const std::string& name) {
  auto it = node.known.find(name);
  if (it == node.known.end()) return;
  bool directory = S_ISDIR(it->second.mode);
  forget(it->second);
  node.known.erase(it);
  tell(Kind::Delete, path_of(node, name), directory);
}

void Watcher::change(Node& node, const std::string& name, bool content) {
  struct stat info;
  if (!look(node, name, info)) return;
  auto it = node.known.find(name);
  if (it == node.known.end()) return appear(node, name, info, true);
  Known& known = it->second;
  bool directory = S_ISDIR(info.st_mode);
  // Of attributes only what a reader cares for: not the number of links, nor a directory's time, which its entries' events tell.
  bool other = known.mode != info.st_mode || (!directory && !same_time(known.mtime, info.st_mtim));
  known.mode = info.st_mode, known.size = info.st_size, known.mtime = info.st_mtim;
  if (other || (content && !directory)) tell(Kind::Modify, path_of(node, name), directory);
}

void Watcher::arrive(Node& node, const std::string& name, std::uint32_t cookie) {
  std::string path = path_of(node, name);
  bool pair = half_.cookie == cookie;
  if (!pair) flush();
  if (pair && excluded(path)) return flush();
  if (excluded(path)) return;
  auto old = node.known.find(name);
  bool replaced = old != node.known.end();
  struct stat info;
  if (!pair) {  // from outside
    if (replaced) forget(old->second), node.known.erase(old);
    if (!look(node, name, info)) info = {};
    appear(node, name, info, !replaced);
    if (replaced) tell(Kind::Modify, path, S_ISDIR(info.st_mode));
    return;
  }
  if (replaced) forget(old->second);
  Half half = std::move(half_);
  half_ = {};
  Known& known = node.known[name] = std::move(half.known);
  if (known.node) known.node->parent = &node, known.node->name = name;
  tell(Kind::Rename, half.path, half.directory, path);
}

void Watcher::flush() {
  if (!half_.cookie) return;
  Half half = std::move(half_);
  half_ = {};
  forget(half.known);
  tell(Kind::Delete, half.path, half.directory);
}

bool Watcher::event(int watch, std::uint32_t mask, std::uint32_t cookie, const std::string& name) {
  if (!(mask & IN_MOVED_TO)) flush();
  if (mask & IN_Q_OVERFLOW) {
    emit_({Kind::Overflow, "", "", false});
    modified_.clear();
    compare(root_, true);
    emit_({});
    return true;
  }
  if (watch == parent_watch_) return !removed();
  auto found = watches_.find(watch);
  if (found == watches_.end()) return true;  // of a directory that has left the tree
  Node& node = *found->second;
  if (mask & (IN_DELETE_SELF | IN_MOVE_SELF | IN_UNMOUNT)) return node.parent != nullptr;
  if (mask & IN_IGNORED) {
    watches_.erase(found);
    node.watch = -1;
    return true;
  }
  if (name.empty()) return true;
  std::string path = path_of(node, name);
  if (mask & IN_MOVED_TO) return arrive(node, name, cookie), true;
  if (excluded(path)) return true;
  auto known = node.known.find(name);
  if (mask & IN_CREATE && known == node.known.end()) {
    struct stat info;
    if (!look(node, name, info))
      info = {}, info.st_mode = mask & IN_ISDIR ? S_IFDIR : S_IFREG;  // gone again, which a later event tells
    appear(node, name, info, true);
  } else if (mask & IN_DELETE) {
    vanish(node, name);
  } else if (mask & IN_MOVED_FROM && known != node.known.end()) {
    half_ = {cookie, path, S_ISDIR(known->second.mode), std::move(known->second)};
    node.known.erase(known);
  } else if (mask & (IN_MODIFY | IN_ATTRIB)) {
    change(node, name, mask & IN_MODIFY);
  }
  return true;
}

// While we hold the directory its removal is no event of its own, but one of its parent.
void Watcher::watch_parent() {
  struct stat ours, above;
  Fd parent(::openat(directory_.get(), "..", O_PATH | O_DIRECTORY | O_CLOEXEC));
  bool root = !parent || ::fstat(directory_.get(), &ours) == -1 || ::fstat(parent.get(), &above) == -1 ||
              (ours.st_ino == above.st_ino && ours.st_dev == above.st_dev);
  if (!root && ::fchdir(parent.get()) == 0)
    parent_watch_ = ::inotify_add_watch(inotify_.get(), ".", IN_DELETE | IN_ONLYDIR);
}

bool Watcher::removed() const {
  struct stat info;
  return ::fstat(directory_.get(), &info) == 0 && info.st_nlink == 0;
}

void Watcher::start() {
  watch_parent();
  watch(root_);
  compare(root_, false);
  emit_({});
}

bool Watcher::read() {
  alignas(inotify_event) char bytes[64 << 10];
  for (;;) {
    ssize_t got = ::read(inotify_.get(), bytes, sizeof bytes);
    if (got == -1 && errno == EAGAIN) return true;
    if (got == -1 && errno == EINTR) continue;
    check(got, "read the inotify instance");
    modified_.clear();
    for (char* at = bytes; at < bytes + got;) {
      auto* one = reinterpret_cast<inotify_event*>(at);
      at += sizeof *one + one->len;
      if (!event(one->wd, one->mask, one->cookie, one->len ? one->name : "")) return false;
    }
  }
}

}  // namespace runner::files
