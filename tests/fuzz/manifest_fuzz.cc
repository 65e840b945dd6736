// Any bytes at all as the body of a manifest, as a manifest.json and as the index of a layer. What must hold: no crash, read or refused with
// reasons in a line each, and what was read is written and read as the same again.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <stdexcept>
#include <string_view>

#include "runner/snapshot/index.h"
#include "runner/snapshot/manifest.h"

namespace {

void must(bool fact) {
  if (!fact) std::abort();
}

void check_body(std::string_view text) {
  runner::Diagnostics wrong;
  auto manifest = runner::snapshot::read_body(text, "m", wrong);
  must(manifest.has_value() == wrong.empty());
  for (const std::string& each : wrong.entries())
    for (unsigned char c : each) must(c >= 0x20 && c != 0x7f);
  if (!manifest) return;
  for (const runner::snapshot::File& file : manifest->files)
    must(file.path.find("..") != 0 && file.path[0] != '/' && file.path.find("/..") == std::string::npos);
  try {
    std::string body = runner::snapshot::body_of(*manifest);  // reads it again by itself
    must(runner::snapshot::read_body(body, "m", wrong) == manifest);
  } catch (const std::runtime_error&) {
    must(text.size() > (1u << 20) / 8);  // only for its size: escapes take more room than what they stand for
  }
}

void check_index(std::string_view text) {
  try {
    for (const runner::snapshot::IndexEntry& entry : runner::snapshot::read_index(text))
      must(entry.path[0] != '/' && entry.path != ".." && !entry.path.starts_with("../") &&
           entry.path.find("/../") == std::string::npos);
  } catch (const std::runtime_error&) {
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  std::string_view text(reinterpret_cast<const char*>(data), size);
  check_body(text);
  check_index(text);
  if (auto parts = runner::snapshot::split(text)) check_body(parts->body);
  return 0;
}
