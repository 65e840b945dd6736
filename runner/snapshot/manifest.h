// What a snapshot says of itself: manifest.json, which is written last and makes it one.
//
//   {"hmac":"<64 hex digits>","manifest":BODY}
//
// The HMAC-SHA256 is over the bytes of BODY as they stand there, so that nothing is parsed that was not signed. BODY is one object;
// unknown keys, keys that are there twice and values out of range are mistakes.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "runner/config/diagnostics.h"

namespace runner::snapshot {

inline constexpr int kFormat = 1;

/// A file of the snapshot: "criu/core-1.img", "files/shm.tar", "layers/0.index". A layer is named by its index, which holds the names,
/// owners, modes, attributes and digests of all that is in it: index.h.
struct File {
  std::string path;
  std::uint64_t size = 0;
  std::string sha256;  // hex
  bool operator==(const File&) const = default;
};

/// A file whose pages a process executes. Either the build id or the digest is empty.
struct Mapped {
  std::string path;  // inside the sandbox
  std::uint64_t size = 0;
  std::string build_id, sha256;  // hex
  bool operator==(const Mapped&) const = default;
};

struct Manifest {
  // Set by Draft::publish().
  std::string id;             // 32 hex digits of its own; stays when it is exported and imported under another name
  std::string name;           // in this store
  std::string created;        // RFC 3339
  std::uint64_t counter = 0;  // of the store, in which it only grows
  std::vector<File> files;    // all of them but the manifest, sorted by path

  std::string session_id;            // that it was taken from
  std::vector<std::string> lineage;  // ids of the snapshots that it comes from, parent first
  bool left_running = false;
  bool automatic = false;  // nobody gave it a name: `snapshot prune` may remove it when nothing uses it

  std::string kernel, machine;  // uname: release and machine
  std::string cpu;              // features, as cpu_features() has them
  std::string criu_version, runner_version;
  std::string policy_name, policy_hash;

  std::vector<std::string> config;  // the arguments of `run` from which a restore decides again
  std::string session = "{}";       // one JSON object, of the supervisor
  std::uint32_t first_id = 0;       // of the ids that the processes ran under
  std::uint32_t id_count = 0;
  std::vector<Mapped> mapped;

  /// Top first. "0" is layers/0 of this snapshot, "base/0" that of another one in the same store.
  std::vector<std::string> layers;

  bool operator==(const Manifest&) const = default;
};

/// BODY. Throws when it would be larger than a reader takes (1 MiB), or `session` is no JSON object.
std::string body_of(const Manifest& manifest);
/// Empty, and all its mistakes said, when it is not as body_of() writes it. `name` is what messages call it.
std::optional<Manifest> read_body(std::string_view body, const std::string& name, Diagnostics& wrong);

/// The text of manifest.json.
std::string sign(std::string_view body, std::string_view key);

struct Signed {
  std::string_view hmac, body;  // of the text that was given
};
/// Empty when the text is not of that form. Nothing is checked yet.
std::optional<Signed> split(std::string_view text);
bool verifies(const Signed& parts, std::string_view key);

/// Whether `path` may stand in Manifest::files: "criu/NAME", "files/NAME" or "layers/LAYER.index", plain names.
bool is_file_path(std::string_view path);
/// The page images, which may be large: criu/pages-*.img.
bool is_pages(std::string_view path);
/// Of a layer in its own snapshot: letters, digits and '-', at most 32.
bool is_layer_name(std::string_view name);

/// What the image of a process depends on of its CPU: the kernel's words, sorted. About 1.5 KB; takes some 50 µs.
std::string cpu_features();
/// Words that are in one list and not in the other: "-avx512f +amx_tile" when the snapshot has avx512f and this host has not, and the
/// other way round. Empty when they are equal.
std::string cpu_difference(std::string_view snapshot, std::string_view here);

/// One with what is known here: kernel, machine, CPU, version of runner.
Manifest manifest_of_this_host();

/// Build id of an ELF file, else the digest of its contents; `path` is what it is called. The position of `fd` is not used.
Mapped describe_mapped(int fd, const std::string& path);

}  // namespace runner::snapshot
