// The digest of a layer's files: what counts is their bytes, not how the disk holds them.
#include <doctest/doctest.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "isolate/sys/file.h"
#include "runner/snapshot/digest.h"

using namespace runner::snapshot;

namespace {

std::string of(const std::string& bytes, std::size_t piece) {
  ContentHash hash;
  for (std::size_t at = 0; at < bytes.size(); at += piece) hash.add(std::string_view(bytes).substr(at, piece));
  return hash.hex();
}

}  // namespace

TEST_CASE("the digest of contents is the same in any pieces, and with its zeros skipped") {
  std::string bytes(700'000, '\0');
  bytes.replace(100, 5, "first");
  bytes.replace(300'000, 6, "middle");
  bytes.back() = 'x';
  std::string whole = of(bytes, bytes.size());
  for (std::size_t piece : {1, 7, 65536, 65537, 300'000}) CHECK(of(bytes, piece) == whole);
  ContentHash skipped;
  skipped.add(bytes.substr(0, 105));
  skipped.skip(300'000 - 105);
  skipped.add("middle");
  skipped.skip(bytes.size() - 300'006 - 1);
  skipped.add("x");
  CHECK(skipped.hex() == whole);
}

TEST_CASE("the digest of contents differs when a byte does, or stands elsewhere") {
  std::string zeros(200'000, '\0'), one = zeros, moved = zeros;
  one[70'000] = 'x', moved[140'000] = 'x';
  CHECK(of(one, 4096) != of(zeros, 4096));
  CHECK(of(one, 4096) != of(moved, 4096));
  std::string other = zeros;
  other[70'000] = 'y';
  CHECK(of(one, 4096) != of(other, 4096));
}

TEST_CASE("the digest of contents of a file with a hole of a terabyte takes no time") {
  isolate::sys::Fd file(::memfd_create("sparse", MFD_CLOEXEC));
  REQUIRE(::pwrite(file.get(), "begin", 5, 0) == 5);
  constexpr off_t kFar = off_t{1} << 40;
  REQUIRE(::pwrite(file.get(), "end", 3, kFar) == 3);
  Digest digest = digest_content(file.get(), "sparse", kFar + 3);
  CHECK(digest.size == kFar + 3);
  ContentHash same;
  same.add("begin");
  same.skip(kFar - 5);
  same.add("end");
  CHECK(digest.sha256 == same.hex());
}
