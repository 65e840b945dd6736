// What the agent's loop and runner-model say to each other over a stream socket, in frames: a byte for the kind, four for the length,
// little-endian, and the payload.
//
//   to runner-model                                 from it
//   'R' {"path","headers":[[name,value],…],
//        "total_ms","first_byte_ms","idle_ms"}
//   'B' the body to post, which begins the request
//                                                   'S' {"status","headers":{…}}   once, when the head of the answer has come
//                                                   'D' bytes of the body          as they come
//   'C' nothing: ends the request under way         'E' {"ok","class","message"}   once, the last frame of every request
//
// One request at a time. A 'C' with none under way is ignored: it has crossed the 'E'. The headers of 'S' are retry-after, retry-after-ms,
// x-should-retry, request-id, x-request-id and content-type, as far as there are any. The classes of 'E':
//   ""          the answer came whole, whatever its status
//   connect     no connection            tls       no encrypted one, or a certificate that is not to be trusted
//   eof         it ended too early       redirect  the status was 3xx: not followed, since the key is for one host
//   first-byte  no byte of a body in first_byte_ms   idle   none in idle_ms after another   total   not whole in total_ms
//   cancelled   by 'C'                   other     anything else, and a body of more than 64 MiB
//
// It ends when its end of the socket says so, or when a frame makes no sense.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

namespace runner::agent::model {

enum Kind : char { kRequest = 'R', kBody = 'B', kCancel = 'C', kStatus = 'S', kData = 'D', kEnd = 'E' };

inline constexpr std::size_t kHead = 5;
inline constexpr std::size_t kLargestPayload = 64u << 20;
inline constexpr std::uint64_t kFirstByteMs = 120'000, kIdleMs = 60'000;  // unless the request says otherwise

struct Frame {
  char kind = 0;
  std::string payload;
};

inline std::string frame(char kind, std::string_view payload) {
  std::string bytes(1, kind);
  for (int shift = 0; shift < 32; shift += 8) bytes += static_cast<char>(payload.size() >> shift & 0xFF);
  return bytes.append(payload);
}

/// Makes frames of a stream that is cut anywhere.
class Frames {
 public:
  explicit Frames(std::size_t largest = kLargestPayload) : largest_(largest) {}

  void add(std::string_view bytes) { buffer_ += bytes; }

  /// One that is there as a whole. Empty when bytes are missing; for ever when it is too large: see broken().
  std::optional<Frame> next() {
    if (buffer_.size() - at_ < kHead || broken()) return std::nullopt;
    std::size_t size = length();
    if (buffer_.size() - at_ < kHead + size) return std::nullopt;
    Frame frame{buffer_[at_], buffer_.substr(at_ + kHead, size)};
    at_ += kHead + size;
    if (at_ == buffer_.size()) buffer_.clear(), at_ = 0;
    return frame;
  }

  bool broken() const { return buffer_.size() - at_ >= kHead && length() > largest_; }

 private:
  std::size_t length() const {
    std::size_t size = 0;
    for (int i = 4; i > 0; --i) size = size << 8 | static_cast<unsigned char>(buffer_[at_ + static_cast<std::size_t>(i)]);
    return size;
  }

  std::size_t largest_, at_ = 0;
  std::string buffer_;
};

}  // namespace runner::agent::model
