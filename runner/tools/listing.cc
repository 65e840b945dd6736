#include "runner/tools/listing.h"

#include <dirent.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <limits.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <memory>
#include <vector>

#include "isolate/sys/error.h"
#include "runner/tools/text.h"

namespace runner::tools {

using namespace isolate::sys;

namespace {

std::string word_for(mode_t mode) {
  if (S_ISREG(mode)) return "file";
  if (S_ISDIR(mode)) return "dir";
  if (S_ISLNK(mode)) return "link";
  if (S_ISFIFO(mode)) return "fifo";
  return S_ISSOCK(mode) ? "socket" : "device";
}

std::string link_text(int folder, const std::string& name) {
  char target[PATH_MAX];
  ssize_t size = ::readlinkat(folder, name.c_str(), target, sizeof target);
  return size < 0 ? "?" : shown_name({target, static_cast<std::size_t>(size)});
}

class Listing {
 public:
  explicit Listing(bool recursive) : recursive_(recursive) {}

  void list(Fd folder, const std::string& prefix, std::size_t depth) {
    for (const std::string& name : names_in(folder, prefix)) {
      if (shown_ == kMostEntries || lines_.size() > kLongestListing) {
        more_ = true;
        return;
      }
      show(folder, name, prefix, depth);
    }
  }

  std::string text() const {
    std::string text = lines_.empty() ? "[empty]\n" : lines_;
    if (more_) text += fmt::format("[and more: only {} entries are shown]\n", shown_);
    text.pop_back();
    return text;
  }

 private:
  void show(const Fd& folder, const std::string& name, const std::string& prefix, std::size_t depth) {
    struct stat info;
    if (::fstatat(folder.get(), name.c_str(), &info, AT_SYMLINK_NOFOLLOW) == -1) return;  // gone meanwhile
    ++shown_;
    std::string path = prefix + shown_name(name), word = word_for(info.st_mode);
    if (S_ISREG(info.st_mode))
      lines_ += fmt::format("{} {} {}\n", word, info.st_size, path);
    else if (S_ISDIR(info.st_mode))
      lines_ += fmt::format("{} - {}/\n", word, path);
    else if (S_ISLNK(info.st_mode))
      lines_ += fmt::format("{} - {} -> {}\n", word, path, link_text(folder.get(), name));
    else
      lines_ += fmt::format("{} - {}\n", word, path);
    if (!recursive_ || !S_ISDIR(info.st_mode)) return;
    Fd below(depth < kDeepestListing ? ::openat(folder.get(), name.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC) : -1);
    if (below)
      list(std::move(below), path + "/", depth + 1);
    else
      lines_ += fmt::format("[{}/ is not listed: {}]\n", path, depth < kDeepestListing ? error_text(errno) : "too deep");
  }

  std::vector<std::string> names_in(const Fd& folder, const std::string& prefix) {
    std::vector<std::string> names;
    int copy = check(::fcntl(folder.get(), F_DUPFD_CLOEXEC, 0), "copy a descriptor");
    std::unique_ptr<DIR, int (*)(DIR*)> dir(::fdopendir(copy), ::closedir);
    if (!dir) {
      ::close(copy);
      throw Refused(fmt::format("list {}: {}", prefix, error_text(errno)));
    }
    while (dirent* entry = ::readdir(dir.get())) {
      std::string_view name = entry->d_name;
      if (name == "." || name == "..") continue;
      if (++looked_ > kMostLooked) {
        more_ = true;
        break;
      }
      names.emplace_back(name);
    }
    std::sort(names.begin(), names.end());
    return names;
  }

  bool recursive_, more_ = false;
  std::size_t shown_ = 0, looked_ = 0;
  std::string lines_;
};

}  // namespace

std::string list_dir(const Workspace& workspace, const std::string& path, bool recursive) {
  Fd folder = workspace.open(path, O_RDONLY | O_DIRECTORY | O_NONBLOCK);
  Listing listing(recursive);
  listing.list(std::move(folder), "", 1);
  return listing.text();
}

std::string stat_path(const Workspace& workspace, const std::string& path) {
  Place place = workspace.is_top(path) ? Place{workspace.open(".", O_PATH | O_DIRECTORY), "."} : workspace.place(path);
  struct stat info;
  if (::fstatat(place.folder.get(), place.name.c_str(), &info, AT_SYMLINK_NOFOLLOW) == -1) refuse(errno, path);
  std::string text = kind_of(info.st_mode);
  if (S_ISLNK(info.st_mode)) text += " to " + link_text(place.folder.get(), place.name);
  tm time{};
  ::gmtime_r(&info.st_mtim.tv_sec, &time);
  char changed[32];
  ::strftime(changed, sizeof changed, "%Y-%m-%dT%H:%M:%SZ", &time);
  return fmt::format("{} is {}, {} bytes, mode {:03o}, changed {}", path, text, info.st_size, info.st_mode & 07777, changed);
}

}  // namespace runner::tools
