#include "runner/tools/text.h"

#include <fmt/format.h>

#include <algorithm>

namespace runner::tools {

namespace {

bool is_inner(char byte) { return (static_cast<unsigned char>(byte) & 0xc0) == 0x80; }

// Bytes of the character that begins with this one; 0: none does.
std::size_t length_of(char byte) {
  auto first = static_cast<unsigned char>(byte);
  if (first < 0x80) return 1;
  if (first >= 0xc2 && first < 0xe0) return 2;
  if (first >= 0xe0 && first < 0xf0) return 3;
  return first >= 0xf0 && first < 0xf5 ? 4 : 0;
}

}  // namespace

bool is_utf8(std::string_view bytes) {
  for (std::size_t i = 0; i < bytes.size();) {
    std::size_t length = length_of(bytes[i]);
    if (length == 0 || length > bytes.size() - i) return false;
    for (std::size_t k = 1; k < length; ++k)
      if (!is_inner(bytes[i + k])) return false;
    unsigned char first = static_cast<unsigned char>(bytes[i]), second = length > 1 ? static_cast<unsigned char>(bytes[i + 1]) : 0;
    // Longer than needed, a surrogate, beyond U+10FFFF.
    if ((first == 0xe0 && second < 0xa0) || (first == 0xed && second > 0x9f) || (first == 0xf0 && second < 0x90) || (first == 0xf4 && second > 0x8f))
      return false;
    i += length;
  }
  return true;
}

std::string_view whole_characters(std::string_view bytes, bool at_beginning, bool at_end) {
  if (!at_beginning)
    for (int i = 0; i < 3 && !bytes.empty() && is_inner(bytes[0]); ++i) bytes.remove_prefix(1);
  if (at_end) return bytes;
  for (std::size_t back = 1; back <= std::min<std::size_t>(3, bytes.size()); ++back) {
    char byte = bytes[bytes.size() - back];
    if (is_inner(byte)) continue;
    return length_of(byte) > back ? bytes.substr(0, bytes.size() - back) : bytes;
  }
  return bytes;
}

std::string shown_name(std::string_view name) {
  bool plain = is_utf8(name) && std::none_of(name.begin(), name.end(), [](char c) { return static_cast<unsigned char>(c) < 0x20 || c == 0x7f; });
  if (plain) return std::string(name);
  std::string quoted = "\"";
  for (char c : name)
    quoted += c < 0x20 || c == 0x7f || c == '"' || c == '\\' ? fmt::format("\\x{:02x}", static_cast<unsigned char>(c)) : std::string(1, c);
  return quoted + "\"";
}

}  // namespace runner::tools
