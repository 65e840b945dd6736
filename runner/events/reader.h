// A log as those see it who read it while it is written and its files are rotated away.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <optional>
#include <string>
#include <string_view>

#include "runner/events/segments.h"

namespace runner::events {

class LogReader {
 public:
  /// Begins with the oldest event that is there.
  explicit LogReader(std::string log);

  /// These move the beginning, and never back: to what comes behind an event, to the last so many events.
  void skip_to_behind(std::uint64_t sequence);
  void skip_to_last(std::uint64_t count);

  /// Gives all whole lines that have come by now, in pieces that end with a newline.
  void read(const std::function<void(std::string_view lines)>& take);

  /// Whether session.ended was read, or was the last line before the beginning.
  bool has_ended();
  /// Events that were rotated away before they could be read.
  std::uint64_t lost() const { return lost_; }
  /// Makes an inotify descriptor tell of the next change. To be called before each read().
  void watch(int inotify) const;

 private:
  struct Place {
    std::size_t file = 0;
    off_t at = 0;
    auto operator<=>(const Place&) const = default;
  };
  void skip_to(const Place& place);
  void drain(const std::function<void(std::string_view lines)>& take);
  bool is_written() const;
  void note(std::string_view lines);

  std::string log_, part_;
  std::deque<LogFile> files_;  // the first is being read
  off_t at_ = 0;
  std::uint64_t last_ = 0, lost_ = 0;
  bool ended_ = false;
};

}  // namespace runner::events
