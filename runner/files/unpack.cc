#include <fcntl.h>
#include <limits.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <vector>

#include "isolate/sys/error.h"
#include "isolate/sys/paths.h"
#include "runner/files/tree.h"

namespace runner::files {

using namespace isolate::sys;

namespace {

constexpr std::size_t kChunk = 256 << 10;

std::string join(const std::vector<std::string>& parts, std::size_t count) {
  std::string path;
  for (std::size_t i = 0; i < count; ++i) path += (i ? "/" : "") + parts[i];
  return path;
}

class Unpacker {
 public:
  Unpacker(TarReader& reader, Spot spot, const UnpackOptions& options, const Note& note)
      : reader_(reader), spot_(std::move(spot)), options_(options), note_(note), bytes_(kChunk, '\0') {}

  void add(TarEntry entry) {
    std::vector<std::string> parts = place_of(entry.name);
    if (parts.size() == 1) entry.name = parts[0];  // for messages: "." is what the stream calls it
    switch (entry.kind) {
      case TarEntry::Kind::Special:
        return note_(fmt::format("refused: {}: a device or named pipe", entry.name));
      case TarEntry::Kind::Directory:
        return add_directory(entry, parts);
      default:
        break;
    }
    if (parts.empty())
      throw TarError(fmt::format("refused: {}: the name of a directory for something else", entry.name));
    Fd parent = parent_of(parts, entry.name);
    const std::string& name = parts.back();
    // What is there goes first, so that nothing is ever written through it.
    if (::unlinkat(parent.get(), name.c_str(), 0) == -1 && errno != ENOENT) {
      if (errno == EISDIR) throw std::runtime_error(fmt::format("{}: a directory stands in its place", entry.name));
      fail(errno, "replace {}", entry.name);
    }
    if (entry.kind == TarEntry::Kind::File) return add_file(entry, parent.get(), name);
    if (entry.kind == TarEntry::Kind::HardLink) return add_hard_link(entry, parent.get(), name);
    check(::symlinkat(entry.link.c_str(), parent.get(), name.c_str()), "make symbolic link {}", entry.name);
    if (options_.keep_ids) give(parent.get(), name, S_IFLNK, entry);
    timespec times[2] = {{0, UTIME_OMIT}, {entry.mtime, entry.mtime_ns}};
    ::utimensat(parent.get(), name.c_str(), times, AT_SYMLINK_NOFOLLOW);
  }

  // What was put into a directory has changed its time, and its mode may forbid putting anything there.
  void finish_directories() {
    for (auto at = directories_.rbegin(); at != directories_.rend(); ++at) {
      std::string path = join(at->parts, at->parts.size());
      Fd dir = reach(path, at->entry.name);
      struct stat info;
      check(::fstat(dir.get(), &info), "look at {}", at->entry.name);
      if (info.st_ino != at->inode)
        throw TarError(fmt::format("refused: {}: it was exchanged while it was filled", at->entry.name));
      if (at->made)
        check(::fchmodat(dir.get(), ".", at->entry.mode & options_.modes, 0), "set the mode of {}", at->entry.name);
      timespec times[2] = {{0, UTIME_OMIT}, {at->entry.mtime, at->entry.mtime_ns}};
      check(::utimensat(dir.get(), ".", times, 0), "set the time of {}", at->entry.name);
    }
  }

 private:
  struct Made {
    std::vector<std::string> parts;
    TarEntry entry;
    ino_t inode;
    bool made;
  };

  std::vector<std::string> place_of(const std::string& name) {
    std::vector<std::string> parts = components_of(name);
    if (!spot_.name.empty()) parts.insert(parts.begin(), spot_.name);
    return parts;
  }

  // RESOLVE_NO_SYMLINKS and never "..": there is no way out of spot_.dir, whatever is exchanged while we look.
  Fd reach(const std::string& path, const std::string& name) {
    try {
      return open_below(spot_.dir.get(), path, Links::Refuse);
    } catch (const SystemError& error) {
      if (error.code() == ELOOP) throw TarError(fmt::format("refused: {}: it leads through a symbolic link", name));
      throw;
    }
  }

  Fd parent_of(const std::vector<std::string>& parts, const std::string& name) {
    std::string path = join(parts, parts.size() - 1);
    try {
      return reach(path, name);
    } catch (const SystemError& error) {
      if (error.code() != ENOENT) throw;
    }
    for (std::size_t i = 1; i < parts.size(); ++i) {
      Fd above = reach(join(parts, i - 1), name);
      if (::mkdirat(above.get(), parts[i - 1].c_str(), 0755) == -1 && errno != EEXIST)
        fail(errno, "make directory {}", join(parts, i));
    }
    return reach(path, name);
  }

  // What was made under this name a moment ago, and nothing that has taken its place: a file of root must not be given away.
  void give(int dir, const std::string& name, mode_t type, const TarEntry& entry) {
    const std::string& shown = entry.name;
    Fd made(check(::openat(dir, name.c_str(), O_PATH | O_NOFOLLOW | O_CLOEXEC), "open {}", shown));
    struct stat info;
    check(::fstat(made.get(), &info), "look at {}", shown);
    if ((info.st_mode & S_IFMT) != type || info.st_uid != ::geteuid())
      throw TarError(fmt::format("refused: {}: it was exchanged while it was made", shown));
    check(::fchownat(made.get(), "", entry.uid, entry.gid, AT_EMPTY_PATH), "give {} to {}:{}", shown, entry.uid,
          entry.gid);
  }

  void add_directory(const TarEntry& entry, const std::vector<std::string>& parts) {
    if (parts.empty()) return;  // where we were told to go; it stays as it is
    Fd parent = parent_of(parts, entry.name);
    const std::string& name = parts.back();
    bool made = ::mkdirat(parent.get(), name.c_str(), 0700) == 0;
    if (!made && errno != EEXIST) fail(errno, "make directory {}", entry.name);
    struct stat info;
    check(::fstatat(parent.get(), name.c_str(), &info, AT_SYMLINK_NOFOLLOW), "look at {}", entry.name);
    if (S_ISLNK(info.st_mode))
      throw TarError(fmt::format("refused: {}: a symbolic link stands where a directory goes", entry.name));
    if (!S_ISDIR(info.st_mode))
      throw std::runtime_error(fmt::format("{}: a file stands where a directory goes", entry.name));
    if (made && options_.keep_ids) give(parent.get(), name, S_IFDIR, entry);
    directories_.push_back({parts, entry, info.st_ino, made});
  }

  void add_file(const TarEntry& entry, int parent, const std::string& name) {
    Fd file(check(::openat(parent, name.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600), "make {}",
                  entry.name));
    bool hole = false;
    for (std::size_t got; (got = reader_.data(bytes_.data(), bytes_.size())) > 0;) {
      hole =
          std::all_of(bytes_.begin(), bytes_.begin() + static_cast<std::ptrdiff_t>(got), [](char c) { return c == 0; });
      if (hole) check(::lseek(file.get(), static_cast<off_t>(got), SEEK_CUR), "write {}", entry.name);
      for (std::size_t done = 0; !hole && done < got;) {
        ssize_t count = ::write(file.get(), bytes_.data() + done, got - done);
        if (count == -1 && errno == EINTR) continue;
        done += static_cast<std::size_t>(check(count, "write {}", entry.name));
      }
    }
    if (hole) check(::ftruncate(file.get(), static_cast<off_t>(entry.size)), "write {}", entry.name);
    if (options_.keep_ids)
      check(::fchown(file.get(), entry.uid, entry.gid), "give {} to {}:{}", entry.name, entry.uid, entry.gid);
    check(::fchmod(file.get(), entry.mode & options_.modes), "set the mode of {}", entry.name);
    timespec times[2] = {{0, UTIME_OMIT}, {entry.mtime, entry.mtime_ns}};
    check(::futimens(file.get(), times), "set the time of {}", entry.name);
  }

  void add_hard_link(const TarEntry& entry, int parent, const std::string& name) {
    std::vector<std::string> target = place_of(entry.link);
    if (target.empty()) throw TarError(fmt::format("refused: {}: a hard link to a directory", entry.name));
    Fd dir = reach(join(target, target.size() - 1), entry.name);
    struct stat info;
    // Only to a plain file: a hard link to a symbolic link would be one more way to place a link.
    check(::fstatat(dir.get(), target.back().c_str(), &info, AT_SYMLINK_NOFOLLOW),
          "find {}, to which {} is a hard link", entry.link, entry.name);
    if (!S_ISREG(info.st_mode))
      throw TarError(fmt::format("refused: {}: a hard link to something that is no file", entry.name));
    check(::linkat(dir.get(), target.back().c_str(), parent, name.c_str(), 0), "make hard link {}", entry.name);
  }

  TarReader& reader_;
  Spot spot_;
  const UnpackOptions& options_;
  const Note& note_;
  std::string bytes_;
  std::vector<Made> directories_;
};

}  // namespace

std::vector<std::string> components_of(const std::string& name) {
  if (name.empty()) throw TarError("refused: an entry without a name");
  if (name[0] == '/') throw TarError(fmt::format("refused: {}: an absolute name", name));
  std::vector<std::string> parts;
  for (std::size_t at = 0; at < name.size();) {
    std::size_t end = std::min(name.find('/', at), name.size());
    std::string part = name.substr(at, end - at);
    if (part == "..") throw TarError(fmt::format("refused: {}: it has '..' in it", name));
    if (part.size() > NAME_MAX)
      throw TarError(
          fmt::format("refused: a name of {} bytes, more than {}: {}...", part.size(), NAME_MAX, part.substr(0, 60)));
    if (!part.empty() && part != ".") parts.push_back(std::move(part));
    at = end + 1;
  }
  return parts;
}

void unpack(TarReader& reader, const std::function<Spot(bool directory)>& land, const UnpackOptions& options,
            const Note& note) {
  std::optional<TarEntry> entry = reader.next();
  if (!entry) return;
  Unpacker unpacker(reader, land(entry->kind == TarEntry::Kind::Directory), options, note);
  for (; entry; entry = reader.next()) unpacker.add(std::move(*entry));
  unpacker.finish_directories();
  reader.drain();
}

}  // namespace runner::files
