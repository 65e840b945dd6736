#include "runner/session/rename.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <optional>
#include <stdexcept>

#include "isolate/sys/error.h"
#include "isolate/sys/file.h"

namespace runner::session {

using namespace isolate::sys;

namespace {

constexpr int kPatience = 2'000;  // milliseconds for another renamer, who needs less than one

struct Names {
  std::string from, to;
};

std::string journal_path(const Directories& directories) { return directories.run + "/.renaming"; }

// Locked, and known to be the file that stands under its name; an empty descriptor when `create` is false and there is none.
// Nothing when another renamer keeps it.
std::optional<Fd> lock_journal(const std::string& path, bool create) {
  for (int waited = 0; waited < kPatience; ++waited) {
    Fd file(::open(path.c_str(), O_RDWR | O_CLOEXEC | O_NOFOLLOW | (create ? O_CREAT : 0), 0600));
    if (!file && errno == ENOENT && !create) return file;
    check(file.get(), "open {}", path);
    struct stat locked, there;
    if (::flock(file.get(), LOCK_EX | LOCK_NB) == 0) {
      if (::fstat(file.get(), &locked) == 0 && ::stat(path.c_str(), &there) == 0 && locked.st_ino == there.st_ino)
        return file;
      continue;  // it was removed between the two calls
    }
    timespec moment{0, 1'000'000};
    ::nanosleep(&moment, nullptr);
  }
  return std::nullopt;
}

// "FROM\nTO\n". Less than that was written by one who died before he did anything.
Names read_names(const std::string& text) {
  std::size_t first = text.find('\n'), second = first == std::string::npos ? first : text.find('\n', first + 1);
  if (second == std::string::npos) return {};
  return {text.substr(0, first), text.substr(first + 1, second - first - 1)};
}

bool is_there(const std::string& path) {
  struct stat info;
  return ::lstat(path.c_str(), &info) == 0;
}

// All that follows the entry's move; each step may have been done already. Empty, or why it went back to the old name.
std::string move_the_rest(const Directories& directories, const Names& names) {
  auto entry = Entry::find(directories, names.to);
  auto state = entry ? entry->find_state() : std::nullopt;
  if (!state || state->id != names.from) return {};  // not begun, or finished
  std::string from = directories.session_data(names.from), to = directories.session_data(names.to);
  if (is_there(from) && ::renameat2(AT_FDCWD, from.c_str(), AT_FDCWD, to.c_str(), RENAME_NOREPLACE) == -1) {
    std::string why = fmt::format("rename {} to {}: {}", from, to, error_text(errno));
    std::string back = directories.run + "/" + names.from;
    check(::renameat2(AT_FDCWD, entry->path().c_str(), AT_FDCWD, back.c_str(), RENAME_NOREPLACE),
          "{}; and then rename {} back", why, entry->path());
    return why;
  }
  state->id = names.to;
  state->cgroup.clear();  // it was removed when the session ended, and its name may be another session's by now
  entry->write_state(*state);
  return {};
}

}  // namespace

void rename_session(const Directories& directories, const Entry& entry, const std::string& name) {
  std::string path = journal_path(directories), data = directories.session_data(name);
  auto journal = lock_journal(path, true);
  if (!journal) fail(EBUSY, "wait for another `runner rename` (it holds {})", path);
  move_the_rest(directories, read_names(read_file(path)));  // of a renamer who died
  if (is_there(data)) fail(EEXIST, "rename {} (data of a session {} is still in {})", entry.id(), name, data);
  check(::ftruncate(journal->get(), 0), "empty {}", path);
  check(::lseek(journal->get(), 0, SEEK_SET), "empty {}", path);
  write_all(journal->get(), fmt::format("{}\n{}\n", entry.id(), name));
  std::string to = directories.run + "/" + name, why;
  int code = ::renameat2(AT_FDCWD, entry.path().c_str(), AT_FDCWD, to.c_str(), RENAME_NOREPLACE) == 0 ? 0 : errno;
  if (code == 0) why = move_the_rest(directories, {entry.id(), name});
  ::unlink(path.c_str());
  if (code) fail(code, "rename {} to {}", entry.id(), name);
  if (!why.empty()) throw std::runtime_error(why);
}

bool finish_rename(const Directories& directories) {
  std::string path = journal_path(directories);
  if (::access(path.c_str(), F_OK) == -1) return true;
  auto journal = lock_journal(path, false);
  if (!journal) return false;
  if (!*journal) return true;
  move_the_rest(directories, read_names(read_file(path)));
  ::unlink(path.c_str());
  return true;
}

}  // namespace runner::session
