#include "runner/tools/files.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <stdio.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "isolate/sys/error.h"
#include "isolate/sys/file.h"
#include "runner/tools/text.h"

namespace runner::tools {

using namespace isolate::sys;

namespace {

struct stat look(const Fd& file, const std::string& path) {
  struct stat info;
  check(::fstat(file.get(), &info), "look at {}", path);
  return info;
}

// Fewer than asked for at the end of the file, which may be growing or shrinking.
std::string read_piece(const Fd& file, const std::string& path, std::uint64_t offset, std::uint64_t most) {
  std::string piece(most, '\0');
  std::size_t got = 0;
  while (got < most) {
    ssize_t now = ::pread(file.get(), piece.data() + got, most - got, static_cast<off_t>(offset + got));
    if (now == -1 && errno == EINTR) continue;
    if (check(now, "read {}", path) == 0) break;
    got += static_cast<std::size_t>(now);
  }
  piece.resize(got);
  return piece;
}

std::string whole_file(const Workspace& workspace, const std::string& path) {
  Fd file = workspace.open_file(path, O_RDONLY);
  std::uint64_t size = static_cast<std::uint64_t>(look(file, path).st_size);
  if (size > kLargestEdit) throw Refused(fmt::format("{} has {} bytes, and only files of up to {} are edited", path, size, kLargestEdit));
  return read_piece(file, path, 0, size);
}

// Written aside and renamed: whoever reads sees the old file or the new one. Its mode stays.
void replace(const Place& place, const std::string& path, const std::string& content) {
  struct stat old;
  bool existed = ::fstatat(place.folder.get(), place.name.c_str(), &old, AT_SYMLINK_NOFOLLOW) == 0;
  if (!existed && errno != ENOENT) refuse(errno, path);
  if (existed && S_ISLNK(old.st_mode)) throw Refused(fmt::format("{} is a symbolic link; write to the file that it names, or delete it first", path));
  if (existed && !S_ISREG(old.st_mode)) throw Refused(fmt::format("{} is {}, not a regular file", path, kind_of(old.st_mode)));
  static unsigned number = 0;
  std::string aside = fmt::format(".runner-tools-{}-{}", ::getpid(), ++number);
  Fd file(::openat(place.folder.get(), aside.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0666));
  if (!file) refuse(errno, path);
  try {
    write_all(file.get(), content);
    if (existed) check(::fchmod(file.get(), old.st_mode & 0777), "set the mode of {}", path);
    check(::renameat(place.folder.get(), aside.c_str(), place.folder.get(), place.name.c_str()), "replace {}", path);
  } catch (...) {
    ::unlinkat(place.folder.get(), aside.c_str(), 0);
    throw;
  }
}

std::size_t count(const std::string& text, const std::string& part) {
  std::size_t found = 0;
  for (std::size_t at = text.find(part); at != std::string::npos; at = text.find(part, at + part.size())) ++found;
  return found;
}

std::string replaced(const std::string& text, const std::string& old, const std::string& fresh) {
  std::string result;
  std::size_t from = 0;
  for (std::size_t at = text.find(old); at != std::string::npos; at = text.find(old, from)) {
    result.append(text, from, at - from).append(fresh);
    from = at + old.size();
  }
  return result.append(text, from);
}

bool exists(const Place& place) {
  struct stat info;
  return ::fstatat(place.folder.get(), place.name.c_str(), &info, AT_SYMLINK_NOFOLLOW) == 0;
}

// remove_tree() wants a path. We have one thread, and nothing else in this program depends on where it stands.
class StandIn {
 public:
  explicit StandIn(const Fd& folder) : before_(::open(".", O_PATH | O_DIRECTORY | O_CLOEXEC)) { check(::fchdir(folder.get()), "go to the folder"); }
  StandIn(const StandIn&) = delete;
  StandIn& operator=(const StandIn&) = delete;
  ~StandIn() {
    if (!before_ || ::fchdir(before_.get()) == -1) static_cast<void>(::chdir("/"));
  }

 private:
  Fd before_;
};

}  // namespace

std::string read_file(const Workspace& workspace, const std::string& path, std::uint64_t offset, std::uint64_t limit) {
  Fd file = workspace.open_file(path, O_RDONLY);
  std::uint64_t size = static_cast<std::uint64_t>(look(file, path).st_size);
  if (offset > size) throw Refused(fmt::format("{} has {} bytes; there is nothing at offset {}", path, size, offset));
  limit = std::clamp<std::uint64_t>(limit, 4, kLongestRead);  // 4: at least one character fits
  std::string piece = read_piece(file, path, offset, limit);
  bool at_end = piece.size() < limit || offset + piece.size() >= size;
  std::string_view text = whole_characters(piece, offset == 0, at_end);
  if (text.find('\0') != std::string_view::npos || !is_utf8(text))
    return fmt::format("[{} is a binary file of {} bytes, or not UTF-8; it is not shown]", path, size);
  std::uint64_t begin = offset + static_cast<std::uint64_t>(text.data() - piece.data()), end = begin + text.size();
  if (begin == 0 && at_end) return std::string(text);
  std::string rest = at_end ? "the end of the file" : fmt::format("go on with offset {}", end);
  return fmt::format("{}\n[bytes {} to {} of {}; {}]", text, begin, end, std::max(size, end), rest);
}

std::string write_file(const Workspace& workspace, const std::string& path, const std::string& content) {
  Place place = workspace.make_place(path);
  replace(place, path, content);
  return fmt::format("wrote {} bytes to {}", content.size(), path);
}

std::string edit_file(const Workspace& workspace, const std::string& path, const std::string& old, const std::string& fresh, bool all) {
  if (old.empty()) throw Refused("'old' is empty; to make a file use write_file");
  if (old == fresh) throw Refused("'old' and 'new' are the same; nothing would change");
  Place place = workspace.place(path);
  std::string text = whole_file(workspace, path);
  std::size_t found = count(text, old);
  if (found == 0) throw Refused(fmt::format("'old' does not occur in {}; it must be the same to the letter, blanks and line ends too", path));
  if (found > 1 && !all) throw Refused(fmt::format("'old' occurs {} times in {}; give more of the text around it, or set 'all'", found, path));
  // The sum cannot overflow: a frame bounds both texts, and the file is bounded above.
  if (text.size() - found * old.size() + found * fresh.size() > kLargestEdit)
    throw Refused(fmt::format("{} would be larger than {} bytes", path, kLargestEdit));
  replace(place, path, replaced(text, old, fresh));
  return fmt::format("replaced {} in {}", found == 1 ? "1 occurrence" : fmt::format("{} occurrences", found), path);
}

std::string append_file(const Workspace& workspace, const std::string& path, const std::string& content) {
  workspace.make_place(path);
  Fd file = workspace.open_file(path, O_WRONLY | O_APPEND | O_CREAT, 0666);
  write_all(file.get(), content);
  return fmt::format("appended {} bytes to {}, which has {} now", content.size(), path, look(file, path).st_size);
}

std::string move_path(const Workspace& workspace, const std::string& from, const std::string& to) {
  Place source = workspace.place(from);
  if (!exists(source)) refuse(errno, from);
  Place target = workspace.make_place(to);
  auto rename = [&](unsigned flags) {
    int done = ::renameat2(source.folder.get(), source.name.c_str(), target.folder.get(), target.name.c_str(), flags);
    return done == 0 ? 0 : errno;
  };
  int why = rename(RENAME_NOREPLACE);
  // Some file systems do not know the flag. They say EINVAL, as for a directory that is to go below itself.
  if (why == EINVAL && !exists(target)) why = rename(0);
  if (why == 0) return fmt::format("moved {} to {}", from, to);
  if (why == EEXIST || exists(target)) throw Refused(fmt::format("{} exists already; delete it first", to));
  if (why == EINVAL) throw Refused(fmt::format("{} cannot be moved below itself, to {}", from, to));
  if (why == EXDEV) throw Refused(fmt::format("{} and {} lie on different file systems; write the new one and delete the old one", from, to));
  throw Refused(fmt::format("{} cannot be moved to {}: {}", from, to, error_text(why)));
}

std::string delete_path(const Workspace& workspace, const std::string& path, bool recursive) {
  if (workspace.is_top(path)) throw Refused(fmt::format("{} is the workspace itself, which is not deleted", path));
  Place place = workspace.place(path);
  struct stat info;
  if (::fstatat(place.folder.get(), place.name.c_str(), &info, AT_SYMLINK_NOFOLLOW) == -1) refuse(errno, path);
  if (S_ISDIR(info.st_mode) && recursive) {
    StandIn there(place.folder);
    remove_tree(place.name);
  } else if (::unlinkat(place.folder.get(), place.name.c_str(), S_ISDIR(info.st_mode) ? AT_REMOVEDIR : 0) == -1) {
    if (errno == ENOTEMPTY) throw Refused(fmt::format("{} is a directory that is not empty; set 'recursive' to delete all that is in it", path));
    refuse(errno, path);
  }
  return fmt::format("deleted {}", path);
}

std::string make_dir(const Workspace& workspace, const std::string& path) {
  return workspace.make_dir(path) ? fmt::format("made directory {}", path) : fmt::format("directory {} is there already", path);
}

}  // namespace runner::tools
