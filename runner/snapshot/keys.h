// The key that signs manifests: 32 random bytes in a file of root's, outside the store that they protect.
#pragma once

#include <optional>
#include <string>
#include <vector>

namespace runner::snapshot {

class Keys {
 public:
  /// `path` is <data>/snapshots.key.
  explicit Keys(std::string path) : path_(std::move(path)) {}

  /// Those that a manifest may be signed with now: the current one first, then the old one of a rotation that has not ended. Empty
  /// before the first use. Throws when a file is not 32 bytes, or is open to others than its owner.
  std::vector<std::string> accepted() const;
  /// The current one; made when there is none yet, by one of any number of callers.
  std::string current() const;

  /// Puts a new key in the place of the current one, which becomes the old one. One that was there already is not lost: call it only
  /// after end_rotation().
  void begin_rotation() const;
  bool in_rotation() const;
  void end_rotation() const;

 private:
  std::string path_;
};

/// A key in a file that the caller names, for export and import. Throws as accepted() does.
std::string read_key(const std::string& path);

}  // namespace runner::snapshot
