// What runner and `runner-tools` say to each other: frames of a length (4 bytes, little-endian) and that many bytes of JSON.
//
//   runner                                                     runner-tools, inside the sandbox
//   {"kind":"hello","proto":1}                            ->
//                                                         <-   {"kind":"hello","proto":1,"last":N}      calls that it has run so far
//   {"kind":"call","id":"t17","tool":"stat","arguments":{}} ->
//                                                         <-   {"kind":"result","id":"t17","ok":true,"text":"…"}
//   {"kind":"ack","id":"t17"}                             ->   the result is forgotten, and not that the call was made
//   {"kind":"forget-all"}                                 ->   everything is
//
// A call whose id is known is answered with the result that is remembered and not run again: whoever is not sure that a call arrived sends it
// once more. What breaks these rules ends runner-tools with exit 2 and a line on stderr.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace runner::tools {

constexpr int kProtocol = 1;
constexpr std::size_t kLongestFrame = 16u << 20;  // without its length
constexpr std::size_t kLongestId = 256;

inline std::string frame_of(std::string_view json) {
  auto size = static_cast<std::uint32_t>(json.size());
  std::string frame;
  frame.reserve(json.size() + 4);
  for (int shift = 0; shift < 32; shift += 8) frame += static_cast<char>(size >> shift & 0xff);
  return frame.append(json);
}

/// Cuts what comes into frames.
class Frames {
 public:
  void add(std::string_view bytes) {
    waiting_.erase(0, at_);
    at_ = 0;
    waiting_ += bytes;
  }
  bool empty() const { return at_ == waiting_.size(); }
  /// The length that is announced is too large: there will never be another frame.
  bool too_long() const { return length() > kLongestFrame; }

  std::optional<std::string> next() {
    std::size_t size = length();
    if (waiting_.size() - at_ < 4 + size || too_long()) return std::nullopt;
    std::string frame = waiting_.substr(at_ + 4, size);
    at_ += 4 + size;
    return frame;
  }

 private:
  std::size_t length() const {
    if (waiting_.size() - at_ < 4) return 0;
    std::size_t size = 0;
    for (unsigned i = 0; i < 4; ++i) size |= std::size_t{static_cast<unsigned char>(waiting_[at_ + i])} << (8 * i);
    return size;
  }

  std::string waiting_;
  std::size_t at_ = 0;
};

}  // namespace runner::tools
