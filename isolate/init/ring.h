// The last bytes of a stream, by their offsets in it.
#pragma once

#include <algorithm>
#include <cstdint>
#include <memory>
#include <string_view>
#include <utility>

namespace isolate::init {

class Ring {
 public:
  /// The memory is touched only as bytes come, so an idle stream costs nothing.
  explicit Ring(std::size_t capacity) : bytes_(new char[capacity]), capacity_(capacity) {}

  std::uint64_t begin() const { return begin_; }  ///< offset of the oldest byte that is kept
  std::uint64_t end() const { return end_; }      ///< of the next one to come
  std::size_t size() const { return static_cast<std::size_t>(end_ - begin_); }
  std::size_t capacity() const { return capacity_; }

  /// Room for new bytes in one piece, when those before `keep_from` may be overwritten: fill it, then say how much was added.
  std::pair<char*, std::size_t> room(std::uint64_t keep_from) {
    std::size_t at = static_cast<std::size_t>(end_ % capacity_);
    std::size_t kept = static_cast<std::size_t>(end_ - std::max(keep_from, begin_));
    return {bytes_.get() + at, std::min(capacity_ - at, capacity_ - kept)};
  }
  void added(std::size_t count) {
    end_ += count;
    if (size() > capacity_) begin_ = end_ - capacity_;
  }

  /// The bytes from `offset` on that lie in one piece, at most `most`. `offset` is in [begin(), end()].
  std::string_view piece(std::uint64_t offset, std::size_t most) const {
    std::size_t at = static_cast<std::size_t>(offset % capacity_);
    return {bytes_.get() + at, std::min({capacity_ - at, static_cast<std::size_t>(end_ - offset), most})};
  }

  /// Gives up what lies before.
  void drop_before(std::uint64_t offset) { begin_ = std::clamp(offset, begin_, end_); }

 private:
  std::unique_ptr<char[]> bytes_;
  std::size_t capacity_;
  std::uint64_t begin_ = 0, end_ = 0;
};

}  // namespace isolate::init
