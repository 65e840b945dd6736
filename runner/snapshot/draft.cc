// A snapshot in the making, until its name appears.
#include <fcntl.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <stdexcept>

#include "isolate/sys/error.h"
#include "isolate/sys/file.h"
#include "runner/events/verify.h"
#include "runner/session/time.h"
#include "runner/snapshot/digest.h"
#include "runner/snapshot/index.h"
#include "runner/snapshot/place.h"
#include "runner/snapshot/store.h"
#include "runner/snapshot/walk.h"

namespace runner::snapshot {

using namespace isolate::sys;

namespace {

std::string random_id() {
  char bytes[16];
  if (::getrandom(bytes, sizeof bytes, 0) != sizeof bytes) fail(errno, "get random bytes for an id");
  return events::hex({bytes, sizeof bytes});
}

File describe_file(const std::string& draft, const std::string& path) {
  if (!is_file_path(path))
    throw std::runtime_error(fmt::format("make a snapshot: {} has no name that its manifest can have", path));
  std::string full = draft + "/" + path;
  Fd file = open_file(full, O_RDONLY | O_NOFOLLOW | O_NONBLOCK);
  struct stat info;
  check(::fstat(file.get(), &info), "look at {}", full);
  if (!S_ISREG(info.st_mode)) throw std::runtime_error(fmt::format("make a snapshot: {} is no plain file", full));
  check(::fchmod(file.get(), 0600), "close {} to others", full);
  Digest digest = digest_file(file.get(), full);
  return {path, digest.size, digest.sha256};
}

}  // namespace

Draft::Draft(Draft&& other) noexcept
    : directories_(std::move(other.directories_)),
      path_(std::exchange(other.path_, {})),
      lock_(std::move(other.lock_)) {}

Draft::~Draft() {
  if (path_.empty()) return;
  try {
    remove_tree(path_);
  } catch (const std::exception&) {
    // The next maker of a snapshot tries again.
  }
}

std::string Draft::make_layer(const std::string& name) {
  if (!is_layer_name(name))
    fail(EINVAL, "make layer '{}' (a layer's name has letters, digits and '-', at most 32)", name);
  std::string path = path_ + "/layers/" + name;
  check(::mkdir(path.c_str(), 0700), "make layer {}", path);
  return path;
}

std::vector<File> Draft::describe() const {
  auto names = [&](const std::string& folder) {
    return names_in(open_file(path_ + folder, O_RDONLY | O_DIRECTORY | O_NOFOLLOW).get(), path_ + folder);
  };
  for (const std::string& name : names(""))
    if (std::find(std::begin(kFolders), std::end(kFolders), name) == std::end(kFolders))
      throw std::runtime_error(fmt::format("make a snapshot: {}/{} may not be there", path_, name));
  std::vector<File> files;
  for (const std::string folder : {"criu", "files"})
    for (const std::string& name : names("/" + folder)) files.push_back(describe_file(path_, folder + "/" + name));
  for (const std::string& layer : names("/layers")) {
    if (!is_layer_name(layer))
      throw std::runtime_error(fmt::format("make a snapshot: {}/layers/{} is no layer", path_, layer));
    std::string index = index_of(open_file(path_ + "/layers/" + layer, O_RDONLY | O_DIRECTORY | O_NOFOLLOW)),
                path = "layers/" + layer + ".index";
    write_new(path_ + "/" + path, index);
    files.push_back({path, index.size(), sha256(index)});
  }
  std::sort(files.begin(), files.end(), [](const File& a, const File& b) { return a.path < b.path; });
  return files;
}

Snapshot Draft::publish(const std::string& name, Manifest manifest) {
  if (path_.empty()) throw std::logic_error("a draft is published once");
  if (std::string why = session::why_bad_id(name); !why.empty())
    throw std::runtime_error(fmt::format("a snapshot's name is like an id: {}", why));
  std::string store = store_path(directories_), path = store + "/" + name;
  auto taken = [&] { fail(EEXIST, "make snapshot {} (`runner snapshot rm {}` would free the name)", name, name); };
  if (find_dir(path)) taken();  // before minutes are spent on hashing; the rename below decides
  manifest.name = name;
  if (manifest.id.empty()) manifest.id = random_id();
  if (manifest.created.empty()) manifest.created = session::rfc3339_now();
  if (manifest.runner_version.empty()) manifest.runner_version = RUNNER_VERSION;
  std::vector<File> expected = std::exchange(manifest.files, describe());
  for (std::size_t i = 0; i < expected.size() && expected != manifest.files; ++i)
    if (i >= manifest.files.size() || expected[i] != manifest.files[i])
      throw std::runtime_error(fmt::format("make snapshot {}: {} is not as its manifest has it (size {}, SHA-256 {})",
                                           name, expected[i].path, expected[i].size, expected[i].sha256));
  manifest.counter = next_counter(store);

  // All that was written: a sync of each of thousands of files would be as many commits of the journal. It tells of errors since Linux 5.8.
  check(::syncfs(lock_.get()), "sync the file system of {}", path_);
  Fd shared = lock_store(store, LOCK_SH);
  Snapshot made(store, path, Fd(), std::move(manifest));
  (void)made.layer_paths_in(path_);  // under the lock: a snapshot that has some of them cannot go any more
  write_new(path_ + "/" + kManifest, sign(body_of(made.manifest_), keys_of(directories_).current()));
  sync_directory(path_);
  if (::renameat2(AT_FDCWD, path_.c_str(), AT_FDCWD, path.c_str(), RENAME_NOREPLACE) == -1) {
    if (errno == EEXIST || errno == ENOTEMPTY) taken();
    fail(errno, "rename {} to {}", path_, path);
  }
  path_ = path;  // still ours to remove, if the last step fails
  sync_directory(store);
  check(::flock(lock_.get(), LOCK_SH), "share {}", path);
  path_.clear();
  made.dir_ = std::move(lock_);
  return made;
}

}  // namespace runner::snapshot
