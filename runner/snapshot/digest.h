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

bool is_hex(std::string_view text, std::size_t digits);

}  // namespace runner::snapshot
