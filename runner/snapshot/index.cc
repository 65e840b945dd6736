#include "runner/snapshot/index.h"

#include <fcntl.h>
#include <limits.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <map>
#include <stdexcept>
#include <unordered_map>
#include <utility>

#include "isolate/sys/error.h"
#include "runner/events/verify.h"
#include "runner/snapshot/digest.h"
#include "runner/snapshot/walk.h"

namespace runner::snapshot {

using namespace isolate::sys;

namespace {

std::string escaped(std::string_view text) {
  std::string safe;
  for (char c : text) {
    if (c > ' ' && c < 127 && c != '%')
      safe += c;
    else
      safe += fmt::format("%{:02X}", static_cast<unsigned char>(c));
  }
  return safe;
}

class Indexer : public Visitor {
 public:
  std::string text;

  void enter(int self, const std::string&, const std::string& path, const struct stat& info) override {
    line('d', path, info, "");
    attributes(self, path);
  }
  void leave(int, const std::string&, const struct stat&) override {}

  void entry(int dir, const std::string& name, const std::string& path, const struct stat& info) override {
    if (S_ISCHR(info.st_mode) && info.st_rdev == makedev(0, 0)) return add(fmt::format("w {}\n", escaped(path)));
    if (info.st_nlink > 1) {
      auto [first, is_new] = linked_.emplace(std::pair(info.st_dev, info.st_ino), path);
      if (!is_new) return add(fmt::format("h {} {}\n", escaped(path), escaped(first->second)));
    }
    if (S_ISREG(info.st_mode)) {
      Fd file(check(::openat(dir, name.c_str(), O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC), "open {}", path));
      Digest digest = digest_content(file.get(), path, static_cast<std::uint64_t>(info.st_size));
      line('f', path, info, fmt::format(" {} {}", digest.size, digest.sha256));
      attributes(file.get(), path);
    } else if (S_ISLNK(info.st_mode)) {
      char target[PATH_MAX];
      ssize_t length = check(::readlinkat(dir, name.c_str(), target, sizeof target), "read link {}", path);
      line('l', path, info, " " + escaped({target, static_cast<std::size_t>(length)}));
    } else if (S_ISFIFO(info.st_mode) || S_ISSOCK(info.st_mode)) {
      line(S_ISFIFO(info.st_mode) ? 'p' : 's', path, info, "");
    } else {
      throw std::runtime_error(fmt::format("{}: it is a device, which no snapshot may hold", path));
    }
  }

 private:
  void add(const std::string& more) {
    text += more;
    if (text.size() > kLargestIndex)
      fail(EFBIG, "index a layer (it has too many files, {} bytes of names and attributes)", text.size());
  }

  void line(char kind, const std::string& path, const struct stat& info, const std::string& rest) {
    add(fmt::format("{} {:o} {} {} {}.{:09} {}{}\n", kind, info.st_mode & 07777, info.st_uid, info.st_gid,
                    info.st_mtim.tv_sec, info.st_mtim.tv_nsec, escaped(path), rest));
  }

  void attributes(int fd, const std::string& path) {
    for (const auto& [name, value] : read_attributes(fd, path))
      add(fmt::format("x {} {}\n", escaped(name), events::hex(value)));
  }

  std::map<std::pair<dev_t, ino_t>, std::string> linked_;
};

/// Goes over an index; a group is a line with the attributes behind it.
class Groups {
 public:
  explicit Groups(std::string_view text) : rest_(text) {}
  std::string_view next() {  // empty at the end
    if (rest_.empty()) return rest_;
    std::size_t end = 0;
    do end = std::min(rest_.find('\n', end), rest_.size() - 1) + 1;
    while (end < rest_.size() && rest_[end] == 'x');
    std::string_view group = rest_.substr(0, end);
    rest_.remove_prefix(group.size());
    return group;
  }

 private:
  std::string_view rest_;
};

std::string_view field(std::string_view line, int number) {
  for (; number > 0; --number) line.remove_prefix(std::min(line.find(' '), line.size() - 1) + 1);
  return line.substr(0, line.find_first_of(" \n"));
}

constexpr const char* kTimeChanged = "its time was changed";

std::string_view path_in(std::string_view group) { return field(group, group[0] == 'w' || group[0] == 'h' ? 1 : 5); }

const char* what_changed(std::string_view was, std::string_view is) {
  std::string_view was_line = was.substr(0, was.find('\n')), is_line = is.substr(0, is.find('\n'));
  if (was_line == is_line) return "its attributes were changed";
  if (was[0] != is[0]) return "it was replaced by something of another kind";
  if (was[0] == 'h') return "it is a hard link to another file";
  constexpr const char* kWhat[] = {
      "", "its mode was changed", "its owner was changed", "its group was changed", kTimeChanged, ""};
  const char* changed = was[0] == 'l' ? "it leads elsewhere" : "its contents were changed";
  for (int i = 6; i < 8 && was[0] != 'd'; ++i)
    if (field(was_line, i) != field(is_line, i)) return changed;
  for (int i = 1; i < 5; ++i)
    if (field(was_line, i) != field(is_line, i)) return kWhat[i];
  return changed;
}

bool has_path(std::string_view index, std::string_view path) {
  Groups groups(index);
  for (std::string_view group; !(group = groups.next()).empty();)
    if (path_in(group) == path) return true;
  return false;
}

}  // namespace

std::string index_of(Fd layer) {
  Indexer indexer;
  walk(std::move(layer), indexer);
  return std::move(indexer.text);
}

Difference difference(std::string_view index, std::string_view now) {
  if (index == now) return {};
  Groups before(index), after(now);
  Difference of_time;  // of a directory: what was done in it tells more
  for (;;) {
    std::string_view was = before.next(), is = after.next();
    if (was.empty() && is.empty()) return of_time;
    if (was == is) continue;
    std::string_view was_path = was.empty() ? was : path_in(was), is_path = is.empty() ? is : path_in(is);
    if (was_path == is_path) {
      Difference found{std::string(was_path), what_changed(was, is)};
      if (found.why != kTimeChanged || was[0] != 'd') return found;
      if (of_time.path.empty()) of_time = std::move(found);
      continue;
    }
    if (!is.empty() && !has_path(index, is_path)) return {std::string(is_path), "it was added"};
    return {std::string(was.empty() ? is_path : was_path), "it is missing"};
  }
}

}  // namespace runner::snapshot
