// Secrets in a snapshot, before it is kept or handed on: `snapshot scan`, `snapshot create --scan`.
#pragma once

#include <cstdint>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

#include "runner/snapshot/secrets.h"

namespace runner::snapshot {

struct Finding {
  std::string file;  // "criu/pages-1.img", "layers/0/root/key"
  Found found;       // in a file that is packed (*.gz): where it stands in what is in there
};

struct Scanned {
  std::vector<Finding> findings;
  std::uint64_t files = 0, bytes = 0;  // holes not counted
};

/// Through all files of a snapshot, or of a draft: CRIU's images with the memory, the files of its own layers, the manifest. A tmpfs, which
/// CRIU packs, is unpacked. Not found is what the program has encrypted, packed or encoded, what lies across two pages of memory that are
/// not neighbours in the image, and what is in names and attributes of files.
Scanned scan(const std::string& snapshot, const Secrets& secrets);

/// The same for what is not in a file yet, and will be in `file`.
void scan_text(const std::string& file, std::string_view text, const Secrets& secrets, Scanned& to);

/// "github-token in criu/pages-1.img at 4096 (3 times)". Never the secret.
std::string describe(const Finding& finding);

/// A snapshot that was to be made without secrets has some: what() names them all.
struct SecretsFound : std::runtime_error {
  SecretsFound(const std::string& snapshot, const std::vector<Finding>& findings);
};

}  // namespace runner::snapshot
