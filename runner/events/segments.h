// The files of a log. It is written to one; when that is full it is renamed, and when there are too many the oldest goes.
//
//   <log>                  what is being written
//   <log>.00000000004711   what was before, from event 4711 on
//   <log>.start            which event was the last to go: verify.h
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace runner::events {

/// Owns a descriptor.
class Descriptor {
 public:
  explicit Descriptor(int fd = -1) : fd_(fd) {}
  Descriptor(Descriptor&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  Descriptor& operator=(Descriptor&& other) noexcept {
    std::swap(fd_, other.fd_);
    return *this;
  }
  ~Descriptor();
  int get() const { return fd_; }

 private:
  int fd_;
};

/// Fourteen digits, as events and file names have them; empty for anything else.
std::optional<std::uint64_t> parse_sequence(std::string_view digits);

std::string segment_path(const std::string& log, std::uint64_t first);
inline std::string start_path(const std::string& log) { return log + ".start"; }

/// The first events of the full files, also of one that should have gone: a writer that was killed may have left it.
std::vector<std::uint64_t> list_segments(const std::string& log);
/// The last event that went with the oldest files, as .start says; 0 when none did.
std::uint64_t gone_before(const std::string& log);

struct LogFile {
  std::uint64_t first = 0;  ///< its first event; 0 for the one that is being written
  Descriptor file;
};

/// All files of a log as they stood at one moment, oldest first. The one that is being written is missing while it is made anew.
/// `meanwhile` is called, perhaps several times, to read what else belongs to that moment.
std::vector<LogFile> open_files(const std::string& log, const std::function<void()>& meanwhile = [] {});

}  // namespace runner::events
