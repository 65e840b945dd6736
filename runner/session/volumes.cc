#include "runner/session/volumes.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <climits>
#include <nlohmann/json.hpp>
#include <set>

#include "isolate/sys/error.h"
#include "isolate/sys/file.h"
#include "runner/session/time.h"

namespace runner::session {

using namespace isolate::sys;

namespace {

// In the making, and being removed. The first are made under the lock of all volumes, so one that is there when somebody else gets
// that lock is of a dead maker; the second are locked by their remover.
constexpr const char* kAside = ".new-";
constexpr const char* kGone = ".old-";

std::string folder_of(const Directories& directories) { return directories.data + "/volumes"; }

// Resolved once, since a session's mounts refuse links on the way to their source.
std::string real_folder(const Directories& directories) {
  make_dirs(folder_of(directories), 0700);
  char real[PATH_MAX];
  if (!::realpath(folder_of(directories).c_str(), real)) fail(errno, "find {}", folder_of(directories));
  return real;
}

Fd open_lock(const std::string& path) { return Fd(::open((path + "/lock").c_str(), O_RDWR | O_CLOEXEC | O_NOFOLLOW)); }

// Only with what still is the lock of that volume: between open and flock it may have been removed, and made anew.
bool lock_now(const Fd& file, const std::string& path, int how) {
  struct stat locked, there;
  return ::flock(file.get(), how | LOCK_NB) == 0 && ::fstat(file.get(), &locked) == 0 && ::lstat((path + "/lock").c_str(), &there) == 0 &&
         locked.st_dev == there.st_dev && locked.st_ino == there.st_ino;
}

// The lock goes last: who finds none finds an empty directory.
void remove_directory(const std::string& path) {
  for (const std::string& name : list_dir(path))
    if (name != "lock") remove_tree(path + "/" + name);
  ::unlink((path + "/lock").c_str());
  ::rmdir(path.c_str());
}

// What a maker or remover that was killed has left; the lock of all volumes is held.
void sweep_volumes(const std::string& folder) {
  for (const std::string& name : list_dir(folder)) {
    std::string path = folder + "/" + name;
    if (name.rfind(kAside, 0) == 0) remove_directory(path);
    if (name.rfind(kGone, 0) != 0) continue;
    Fd lock = open_lock(path);
    if (!lock) ::rmdir(path.c_str());
    else if (lock_now(lock, path, LOCK_EX)) remove_directory(path);
  }
}

// Its directory has gone since, or is another: what was read in it is of a volume that is being removed.
bool was_removed(const Fd& there, const std::string& path) {
  struct stat then, now;
  return ::fstat(there.get(), &then) == 0 && (::lstat(path.c_str(), &now) == -1 || then.st_dev != now.st_dev || then.st_ino != now.st_ino);
}

std::optional<Volume> read_volume(const Fd& there, const std::string& folder, const std::string& name) {
  Volume volume;
  volume.name = name;
  volume.data = folder + "/" + name + "/data";
  struct stat info;
  if (::fstatat(there.get(), "data", &info, AT_SYMLINK_NOFOLLOW) == -1 || !S_ISDIR(info.st_mode))
    fail(ENOTDIR, "use volume {} ({} is no folder that runner has made)", name, volume.data);
  volume.uid = info.st_uid, volume.gid = info.st_gid;
  auto record = nlohmann::json::parse(read_file_at(there.get(), "volume.json", 1 << 16));
  if (record.at("version") != 1) fail(EPROTO, "use volume {} (it is of another version of runner)", name);
  volume.created = record.value("created", "");
  if (::fstatat(there.get(), "lock", &info, AT_SYMLINK_NOFOLLOW) == 0) volume.used = info.st_mtime;
  return volume;
}

// A remover renames it before anything else, so what is wrong with one that still has its name is wrong with it.
std::optional<Volume> look(const std::string& folder, const std::string& name) {
  std::string path = folder + "/" + name;
  for (;;) {
    Fd there(::open(path.c_str(), O_PATH | O_CLOEXEC | O_NOFOLLOW));
    if (!there && errno == ENOENT) return std::nullopt;
    check(there.get(), "open {}", path);
    try {
      return read_volume(there, folder, name);
    } catch (const std::exception&) {
      if (!was_removed(there, path)) throw;
    }
  }
}

// The lowest that no volume has. Ids are few, and looking costs a stat each.
std::uint32_t free_owner(const std::string& folder) {
  std::set<std::uint32_t> taken;
  for (const std::string& name : list_dir(folder))
    if (struct stat info; ::lstat((folder + "/" + name + "/data").c_str(), &info) == 0) taken.insert(info.st_uid);
  for (std::uint32_t id = kFirstVolumeId; id < kFirstVolumeId + kVolumeIds; ++id)
    if (!taken.count(id)) return id;
  fail(EAGAIN, "find a free id for a volume (all {} are in use: see `runner volume prune`)", kVolumeIds);
}

Fd lock_all(const std::string& folder) {
  Fd lock = open_file(folder + "/.lock", O_RDWR | O_CREAT | O_NOFOLLOW, 0600);
  while (::flock(lock.get(), LOCK_EX) == -1)
    if (errno != EINTR) fail(errno, "lock {}", folder);
  return lock;
}

void make_volume(const std::string& folder, const std::string& name) {
  Fd all = lock_all(folder);
  sweep_volumes(folder);
  std::string path = folder + "/" + name, aside = fmt::format("{}/{}{}", folder, kAside, name), data = aside + "/data";
  check(::mkdir(aside.c_str(), 0700), "make directory {}", aside);
  check(::mkdir(data.c_str(), 0755), "make directory {}", data);
  check(::chmod(data.c_str(), 0755), "set the mode of {}", data);
  if (::geteuid() == 0) {
    std::uint32_t owner = free_owner(folder);
    check(::lchown(data.c_str(), owner, owner), "give {} its owner", data);
  }
  open_file(aside + "/lock", O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW, 0600);
  replace_file(aside + "/volume.json", nlohmann::json{{"version", 1}, {"created", rfc3339_now()}}.dump(), 0600, true);
  if (::renameat2(AT_FDCWD, aside.c_str(), AT_FDCWD, path.c_str(), RENAME_NOREPLACE) == -1) {
    int code = errno;
    remove_directory(aside);
    if (code != EEXIST) fail(code, "make volume {}", name);  // else another session was faster
  }
  check(::fsync(open_file(folder, O_RDONLY | O_DIRECTORY).get()), "sync {}", folder);
}

}  // namespace

std::optional<Volume> find_volume(const Directories& directories, const std::string& name) {
  if (!why_bad_id(name).empty() || !find_dir(folder_of(directories))) return std::nullopt;
  return look(real_folder(directories), name);
}

Volume imagine_volume(const Directories& directories, const std::string& name) {
  if (auto there = find_volume(directories, name)) return *there;
  Volume volume;
  volume.name = name;
  volume.data = folder_of(directories) + "/" + name + "/data";
  volume.uid = ::geteuid() == 0 ? kFirstVolumeId : ::geteuid();
  volume.gid = ::geteuid() == 0 ? kFirstVolumeId : ::getegid();
  return volume;
}

std::vector<std::string> list_volumes(const Directories& directories) {
  std::vector<std::string> names;
  for (const std::string& name : list_dir(folder_of(directories)))
    if (name[0] != '.') names.push_back(name);
  return names;
}

VolumeLease VolumeLease::take(const Directories& directories, const std::string& name) {
  if (std::string why = why_bad_id(name); !why.empty()) fail(EINVAL, "use volume {} ({})", name, why);
  std::string folder = real_folder(directories), path = folder + "/" + name;
  constexpr int kTries = 5000;  // milliseconds for a remover to get it out of the way, which is a rename
  for (int tries = 0; tries < kTries; ++tries) {
    VolumeLease lease;
    lease.lock_ = open_lock(path);
    if (!lease.lock_ && errno == ENOENT) {
      if (find_dir(path)) look(folder, name);  // throws what is wrong with what stands there
      make_volume(folder, name);
    } else if (check(lease.lock_.get(), "open {}", path + "/lock"); lock_now(lease.lock_, path, LOCK_SH)) {
      (void)::futimens(lease.lock_.get(), nullptr);
      if (auto found = look(folder, name)) {
        lease.volume_ = *found;
        return lease;
      }
    } else {
      timespec moment{0, 1'000'000};
      ::nanosleep(&moment, nullptr);
    }
  }
  fail(EBUSY, "use volume {} (a `runner volume rm` has begun and does not go on)", name);
}

bool remove_volume(const Directories& directories, const std::string& name) {
  std::string folder = real_folder(directories), path = folder + "/" + name;
  Fd lock = open_lock(path);
  if (!lock && errno != ENOENT) fail(errno, "open {}", path + "/lock");
  if (!why_bad_id(name).empty() || !find_dir(path)) fail(ENOENT, "remove volume {}", name);
  if (lock && !lock_now(lock, path, LOCK_EX)) return false;
  std::string aside = fmt::format("{}/{}{}-{}", folder, kGone, name, ::getpid());
  check(::rename(path.c_str(), aside.c_str()), "remove volume {}", name);
  remove_directory(aside);
  Fd all = lock_all(folder);
  sweep_volumes(folder);
  return true;
}

}  // namespace runner::session
