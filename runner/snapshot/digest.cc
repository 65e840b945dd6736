#include "runner/snapshot/digest.h"

#include <nettle/sha2.h>
#include <unistd.h>

#include <algorithm>
#include <memory>

#include "isolate/sys/error.h"
#include "runner/events/verify.h"
#include "runner/snapshot/walk.h"

namespace runner::snapshot {

using namespace isolate::sys;

namespace {

constexpr std::size_t kChunk = 256 << 10;  // stays in the second level cache between read and hash

sha256_ctx* context(unsigned char* state) { return reinterpret_cast<sha256_ctx*>(state); }

}  // namespace

Sha256::Sha256() {
  static_assert(sizeof(sha256_ctx) <= sizeof state_);
  sha256_init(context(state_));
}

void Sha256::add(std::string_view bytes) {
  sha256_update(context(state_), bytes.size(), reinterpret_cast<const std::uint8_t*>(bytes.data()));
}

std::string Sha256::hex() {
  std::uint8_t digest[SHA256_DIGEST_SIZE];
  sha256_digest(context(state_), sizeof digest, digest);
  return events::hex({reinterpret_cast<const char*>(digest), sizeof digest});
}

std::string sha256(std::string_view bytes) {
  Sha256 hash;
  hash.add(bytes);
  return hash.hex();
}

Digest digest_file(int fd, const std::string& name) {
  static const std::unique_ptr<char[]> buffer = std::make_unique_for_overwrite<char[]>(kChunk);
  Sha256 hash;
  Digest digest;
  for (;;) {
    ssize_t got = ::pread(fd, buffer.get(), kChunk, static_cast<off_t>(digest.size));
    if (got == -1 && errno == EINTR) continue;
    if (check(got, "read {}", name) == 0) break;
    hash.add({buffer.get(), static_cast<std::size_t>(got)});
    digest.size += static_cast<std::uint64_t>(got);
  }
  digest.sha256 = hash.hex();
  return digest;
}

void ContentHash::add(std::string_view bytes) {
  while (!bytes.empty()) {
    std::string_view part = bytes.substr(0, kBlock - block_.size());
    block_ += part;
    bytes.remove_prefix(part.size());
    if (block_.size() == kBlock) end_block();
  }
}

void ContentHash::skip(std::uint64_t zeros) {
  std::uint64_t first = block_.empty() ? 0 : std::min<std::uint64_t>(zeros, kBlock - block_.size());
  add(std::string(first, '\0'));
  number_ += (zeros - first) / kBlock;
  add(std::string((zeros - first) % kBlock, '\0'));
}

void ContentHash::end_block() {
  if (block_.find_first_not_of('\0') != std::string::npos) {
    char number[8];
    for (std::size_t i = 0; i < sizeof number; ++i) number[i] = static_cast<char>(number_ >> 8 * i);
    hash_.add({number, sizeof number});
    hash_.add(block_);
  }
  ++number_;
  block_.clear();
}

std::string ContentHash::hex() {
  if (!block_.empty()) end_block();
  number_ = 0;
  return hash_.hex();
}

Digest digest_content(int fd, const std::string& name, std::uint64_t size) {
  static const std::unique_ptr<char[]> buffer = std::make_unique_for_overwrite<char[]>(kChunk);
  ContentHash hash;
  std::uint64_t at = 0;
  each_data(fd, name, size, [&](std::uint64_t from, std::uint64_t to) {
    hash.skip(from - at);
    for (at = from; at < to;) {
      ssize_t got = ::pread(fd, buffer.get(), static_cast<std::size_t>(std::min<std::uint64_t>(kChunk, to - at)), static_cast<off_t>(at));
      if (got == -1 && errno == EINTR) continue;
      if (check(got, "read {}", name) == 0) fail(EIO, "read {} (it became shorter meanwhile)", name);
      hash.add({buffer.get(), static_cast<std::size_t>(got)});
      at += static_cast<std::uint64_t>(got);
    }
  });
  hash.skip(size - at);
  return {size, hash.hex()};
}

bool is_hex(std::string_view text, std::size_t digits) {
  return text.size() == digits &&
         std::all_of(text.begin(), text.end(), [](char c) { return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f'); });
}

}  // namespace runner::snapshot
