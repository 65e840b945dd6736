// The snapshots of a data directory: <data>/snapshots/<name>/{manifest.json, criu/, files/, layers/<n>/, layers/<n>.index}, root only.
//
// Locks are flock(2)s on the directories themselves, so that they end with their holder:
//   a draft      exclusive, by its maker. A .new-* or .old-* whose lock is free belongs to nobody and goes
//   a snapshot   shared, by each Snapshot object; exclusive to remove it
//   .lock        of the store: shared while a manifest is signed and published, exclusive to remove and to rotate the key
// The key is in <data>/snapshots.key, outside. While it is rotated the old one is in snapshots.key.old, and both are good.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <stdexcept>
#include <string>
#include <vector>

#include "isolate/sys/fd.h"
#include "runner/session/directories.h"
#include "runner/snapshot/manifest.h"

namespace runner::snapshot {

/// A snapshot is not what its maker signed. what() is "snapshot base: criu/core-1.img: its SHA-256 is ..., not ...".
class BadSnapshot : public std::runtime_error {
 public:
  BadSnapshot(const std::string& snapshot, std::string file, std::string why);
  const std::string& file() const { return file_; }  ///< within the snapshot
  const std::string& why() const { return why_; }

 private:
  std::string file_, why_;
};

enum class Verify {
  Metadata,  ///< all but the contents of criu/pages-*.img, which must have their sizes
  Full
};

/// One that is there, and stays there as long as the object lives: hold it until sessions/<id>/from names it, and not longer.
/// Its manifest has been verified.
class Snapshot {
 public:
  const Manifest& manifest() const& { return manifest_; }
  Manifest manifest() && { return std::move(manifest_); }
  const std::string& name() const { return manifest_.name; }
  const std::string& path() const { return path_; }  ///< absolute
  /// Its layers, top first: directories with ids from 0, for isolate::Overlay::lower. Throws BadSnapshot when one is missing.
  std::vector<std::string> layer_paths() const;

  /// Every file there, as the manifest has it, and no other; throws BadSnapshot for the first that is not. Layers of other snapshots
  /// are theirs to verify. Reads everything: some 1.5 GB/s.
  void verify(Verify depth) const;

  /// What a restore uses. Copies each file of criu/ but the page images into the folder `to`, checking size and digest on the very
  /// bytes that it writes; page images become symbolic links to where the caller shows criu/ as `pages`, and with Verify::Full their
  /// digests are checked too. Throws BadSnapshot; what has been copied by then stays, for the caller to remove.
  void take_verified(int to, const std::string& pages, Verify depth = Verify::Metadata) const;

  /// Hands on the bytes of one file; throws BadSnapshot behind the last of them when they were not those of the manifest.
  void send(const File& file, const std::function<void(std::string_view bytes)>& take) const;
  /// The verified contents of one file, such as "files/shm.tar". Throws BadSnapshot when the manifest has no such file, or for its
  /// contents.
  std::string read(const std::string& file) const;

 private:
  friend class Store;
  friend class Draft;
  Snapshot(std::string store, std::string path, isolate::sys::Fd dir, Manifest manifest)
      : store_(std::move(store)), path_(std::move(path)), dir_(std::move(dir)), manifest_(std::move(manifest)) {}
  [[noreturn]] void bad(const std::string& file, const std::string& why) const;
  isolate::sys::Fd open_folder(const std::string& name) const;
  isolate::sys::Fd open(const File& file, int folder) const;
  void send(const File& file, int fd, const std::function<void(std::string_view)>& take) const;
  void verify_layer(const File& index) const;
  void verify_names() const;
  std::vector<std::string> layer_paths_in(const std::string& own) const;
  std::string store_, path_;
  isolate::sys::Fd dir_;  // with the shared lock
  Manifest manifest_;
};

/// A snapshot that is being made. Its destructor removes it unless it was published.
class Draft {
 public:
  Draft(Draft&& other) noexcept;
  ~Draft();

  const std::string& path() const { return path_; }
  std::string criu() const { return path_ + "/criu"; }    ///< for CRIU's images: a folder of plain files
  std::string files() const { return path_ + "/files"; }  ///< for files of ours, likewise
  /// Makes layers/NAME, an empty directory for copy_layer(), and returns its path. Not each need be in Manifest::layers.
  std::string make_layer(const std::string& name);

  /// Makes it a snapshot called `name`: hashes all, syncs all, writes the manifest, renames. When it returns the snapshot will survive a
  /// loss of power. Throws when the name is taken or bad, when something is in the folders that may not be there, when the disk is full;
  /// then nothing is left once this object has gone. Fields of the manifest that the store knows are set here; files that it has already
  /// must be those that are found.
  Snapshot publish(const std::string& name, Manifest manifest);

 private:
  friend class Store;
  Draft(session::Directories directories, std::string path, isolate::sys::Fd lock)
      : directories_(std::move(directories)), path_(std::move(path)), lock_(std::move(lock)) {}
  std::vector<File> describe() const;
  session::Directories directories_;
  std::string path_;  // empty once it was published
  isolate::sys::Fd lock_;
};

/// What `list` knows of each.
struct Listed {
  std::string name;
  std::optional<Manifest> manifest;  // empty when it does not verify
  std::string why;                   // then
};

class Store {
 public:
  /// Throws when the store is of a newer version. Makes nothing: that is for draft().
  explicit Store(const session::Directories& directories);
  const session::Directories& directories() const { return directories_; }

  Draft draft();  ///< removes what killed makers have left, first
  /// Empty when there is none of that name. Throws BadSnapshot when its manifest does not verify.
  std::optional<Snapshot> find(const std::string& name) const;
  Snapshot get(const std::string& name) const;  ///< throws, too, when there is none
  std::vector<Listed> list() const;             ///< by name

  /// Of each snapshot that something uses: the sessions that were restored from it, "session s1", and the snapshots that have layers of
  /// it, "snapshot base2".
  using Users = std::map<std::string, std::vector<std::string>>;
  Users users() const;
  /// Throws when there is none, and when something uses it, which the message names. A damaged one can be removed.
  void remove(const std::string& name);
  void sweep();  ///< what killed makers and removers have left

  struct Rotated {
    std::vector<std::string> signed_again;
    std::vector<std::string> left;  // that verified with no key, and why
  };
  /// A new key, and each manifest that verifies signed with it. Killed in the middle, both keys are good until it is done again.
  Rotated rotate_key();

  std::string path() const { return directories_.data + "/snapshots"; }

 private:
  std::vector<std::string> names() const;
  std::vector<std::string> users_of(const std::string& name) const;
  void sign_all_again(const std::vector<std::string>& keys, Rotated& rotated) const;
  session::Directories directories_;
};

}  // namespace runner::snapshot
