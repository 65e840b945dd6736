// SHA-256, as it is computed all over a snapshot.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace runner::snapshot {

class Sha256 {
 public:
  Sha256();
  void add(std::string_view bytes);
  std::string hex();  ///< of all that was added; begins anew

 private:
  alignas(8) unsigned char state_[128];  // of the library, whose type is not to be seen here
};

std::string sha256(std::string_view bytes);

struct Digest {
  std::uint64_t size = 0;
  std::string sha256;
};
/// Of a file from its beginning to its end, whatever the position of `fd`; `name` is for messages.
Digest digest_file(int fd, const std::string& name);

/// SHA-256 of what is in a file of a layer: of its blocks of 64 KiB (the last may be shorter) that hold more than zeros, each behind its
/// number in eight bytes, the least first. So a hole, of which a program may make terabytes, costs nothing, and it is the same whether the
/// zeros lie on the disk or not. The size is told beside it.
class ContentHash {
 public:
  void add(std::string_view bytes);
  void skip(std::uint64_t zeros);
  std::string hex();  ///< of all that was added; begins anew

 private:
  static constexpr std::size_t kBlock = 64 << 10;
  void end_block();
  Sha256 hash_;
  std::string block_;
  std::uint64_t number_ = 0;
};
/// `size` is the file's; one that became shorter is an error.
Digest digest_content(int fd, const std::string& name, std::uint64_t size);

bool is_hex(std::string_view text, std::size_t digits);

}  // namespace runner::snapshot
