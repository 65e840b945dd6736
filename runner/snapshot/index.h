// The index of a layer: a line for each name in it, in the order of walk(), by which it is verified, exported and made again.
//
//   d MODE UID GID TIME PATH               a directory; the first is "."
//   f MODE UID GID TIME PATH SIZE SHA256   a file; the digest is that of ContentHash
//   l MODE UID GID TIME PATH TARGET        a symbolic link
//   p, s MODE UID GID TIME PATH            a named pipe, a socket
//   h PATH FIRST                           another name of FIRST, which came before
//   w PATH                                 a whiteout
//   x NAME VALUE                           an attribute of the line before
//
// MODE is octal, TIME is seconds.nanoseconds, VALUE hex. In PATH, TARGET and NAME a byte that is no printable ASCII stands as %XX, and
// so do blanks and '%'.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "isolate/sys/fd.h"
#include "runner/snapshot/attributes.h"

namespace runner::snapshot {

inline constexpr std::size_t kLargestIndex = 256u << 20;  // about a million files

struct IndexEntry {
  char kind = 'f';
  std::uint32_t mode = 0, uid = 0, gid = 0;
  std::int64_t mtime = 0;
  std::uint32_t mtime_ns = 0;
  std::string path;
  std::uint64_t size = 0;  // of a file
  std::string text;        // the digest of a file, the target of a link, the first name of a hard link
  Attributes attributes;
  bool operator==(const IndexEntry&) const = default;
};

/// Reads the whole layer. Throws when something is in it that copy_layer() makes none of.
std::string index_of(isolate::sys::Fd layer);

/// Throws std::runtime_error with the line for what write_index would not have written: whoever has written it, paths lead nowhere but
/// into the layer, and each has its directory before it.
std::vector<IndexEntry> read_index(std::string_view text);

struct Difference {
  std::string path;  // in the layer; empty: none
  std::string why;   // "its contents were changed", "it is missing", "it was added"
};
/// Between the index of a snapshot and that of what is there now: the first one.
Difference difference(std::string_view index, std::string_view now);

/// Makes the layer in the empty directory `to`. `content` is called for each file in order and writes its bytes.
void make_layer(const std::vector<IndexEntry>& index, isolate::sys::Fd to,
                const std::function<void(const IndexEntry& file, int fd)>& content);

}  // namespace runner::snapshot
