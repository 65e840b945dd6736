#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <sys/stat.h>

#include <algorithm>
#include <memory>
#include <vector>

#include "isolate/sys/error.h"
#include "runner/files/tree.h"

namespace runner::files {

using namespace isolate::sys;

namespace {

// A descriptor and a stack frame each; what nests deeper was made to be a trap.
constexpr int kDeepest = 400;

std::vector<std::string> names_in(Fd dir, const std::string& as) {
  DIR* raw = ::fdopendir(dir.get());
  if (!raw) fail(errno, "list directory {}", as);
  dir.release();
  std::unique_ptr<DIR, int (*)(DIR*)> list(raw, ::closedir);
  std::vector<std::string> names;
  while (dirent* entry = ::readdir(list.get())) {
    std::string name = entry->d_name;
    if (name != "." && name != "..") names.push_back(std::move(name));
  }
  std::sort(names.begin(), names.end());
  return names;
}

class Packer {
 public:
  Packer(TarWriter& writer, const Note& note) : writer_(writer), note_(note), bytes_(256 << 10, '\0') {}

  void add(int dir, const std::string& name, const std::string& as, int depth) {
    struct stat info;
    if (::fstatat(dir, name.c_str(), &info, AT_SYMLINK_NOFOLLOW) == -1) {
      if (errno == ENOENT && depth > 0) return;  // gone since it was listed
      fail(errno, "copy {}", depth > 0 ? as : name);
    }
    if (as.size() + 1 > TarReader::kLongestName)
      return note_(fmt::format("left out: a path of {} bytes: {}...", as.size(), as.substr(0, 60)));
    TarEntry entry;
    entry.name = as;
    entry.mode = info.st_mode & 07777;
    entry.uid = info.st_uid;
    entry.gid = info.st_gid;
    entry.mtime = info.st_mtim.tv_sec;
    entry.mtime_ns = static_cast<std::uint32_t>(info.st_mtim.tv_nsec);
    if (S_ISDIR(info.st_mode)) return add_directory(dir, name, entry, depth);
    if (S_ISLNK(info.st_mode)) return add_link(dir, name, entry);
    if (S_ISREG(info.st_mode)) return add_file(dir, name, entry);
    note_(fmt::format("left out: {}: {}", as,
                      S_ISSOCK(info.st_mode)   ? "a socket"
                      : S_ISFIFO(info.st_mode) ? "a named pipe"
                                               : "a device"));
  }

 private:
  void add_directory(int parent, const std::string& name, TarEntry& entry, int depth) {
    if (depth > kDeepest)
      return note_(fmt::format("left out: {}...: nested more than {} deep", entry.name.substr(0, 60), kDeepest));
    Fd dir(::openat(parent, name.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC));
    if (!dir && depth > 0 && (errno == ENOENT || errno == ENOTDIR || errno == ELOOP))
      return note_(fmt::format("left out: {}: changed while it was copied", entry.name));
    check(dir.get(), "open directory {}", entry.name == "." ? name : entry.name);
    entry.kind = TarEntry::Kind::Directory;
    writer_.begin(entry);
    writer_.end();
    for (const std::string& below :
         names_in(Fd(check(::openat(dir.get(), ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC), "list {}", entry.name)),
                  entry.name))
      add(dir.get(), below, entry.name + "/" + below, depth + 1);
  }

  void add_link(int dir, const std::string& name, TarEntry& entry) {
    char target[PATH_MAX];
    ssize_t length = ::readlinkat(dir, name.c_str(), target, sizeof target);
    if (length <= 0) return note_(fmt::format("left out: {}: changed while it was copied", entry.name));
    entry.kind = TarEntry::Kind::Symlink;
    entry.link.assign(target, static_cast<std::size_t>(length));
    writer_.begin(entry);
    writer_.end();
  }

  void add_file(int dir, const std::string& name, TarEntry& entry) {
    // Between the look and the open it can become a pipe, on which to wait would be for ever, or a link.
    Fd file(::openat(dir, name.c_str(), O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC));
    struct stat info;
    if (!file && (errno == ENOENT || errno == ELOOP || errno == ENXIO))
      return note_(fmt::format("left out: {}: changed while it was copied", entry.name));
    check(file.get(), "open {}", entry.name == "." ? name : entry.name);
    check(::fstat(file.get(), &info), "look at {}", entry.name);
    if (!S_ISREG(info.st_mode)) return note_(fmt::format("left out: {}: changed while it was copied", entry.name));
    entry.size = static_cast<std::uint64_t>(info.st_size);
    writer_.begin(entry);
    std::uint64_t left = entry.size;
    while (left > 0) {
      ssize_t got =
          ::read(file.get(), bytes_.data(), static_cast<std::size_t>(std::min<std::uint64_t>(left, bytes_.size())));
      if (got == -1 && errno == EINTR) continue;
      if (check(got, "read {}", entry.name) == 0) break;
      writer_.data({bytes_.data(), static_cast<std::size_t>(got)});
      left -= static_cast<std::uint64_t>(got);
    }
    if (left > 0) note_(fmt::format("{}: became shorter while it was copied; zeros stand for the rest", entry.name));
    if (left > 0) std::fill(bytes_.begin(), bytes_.end(), '\0');
    for (; left > 0; left -= std::min<std::uint64_t>(left, bytes_.size()))
      writer_.data({bytes_.data(), static_cast<std::size_t>(std::min<std::uint64_t>(left, bytes_.size()))});
    writer_.end();
  }

  TarWriter& writer_;
  const Note& note_;
  std::string bytes_;
};

}  // namespace

void pack(const Spot& from, const std::string& as, TarWriter& writer, const Note& note) {
  Packer(writer, note).add(from.dir.get(), from.name, as, 0);
  writer.finish();
}

}  // namespace runner::files
