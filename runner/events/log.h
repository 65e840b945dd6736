// A log on the disk, as its writer has it: the files of segments.h, with the key and the seals of verify.h.
//
// When a file is full: it is renamed, a new one is made, .start is replaced so that it names the last event of the oldest file, and that
// file is removed. Whoever is killed between two of these steps leaves a log that verifies.
#pragma once

#include <cstdint>
#include <deque>
#include <string>

#include "runner/events/segments.h"
#include "runner/events/writer.h"

namespace runner::events {

struct VerifyResult;

/// A full file: its events, and the HMAC of the last.
struct Segment {
  std::uint64_t first = 0, last = 0;
  std::string mac;
};

class LogSink : public Sink {
 public:
  /// A new log. Throws when it is there already.
  LogSink(const std::string& path, std::string key, LogLimits limits);
  /// One that goes on, as it was verified.
  LogSink(const std::string& path, std::string key, LogLimits limits, const VerifyResult& before);
  /// After an error the log ends with the last whole line.
  void line(const Line& line) override;
  std::uint64_t bytes() const { return bytes_; }  ///< of the file that is being written

 private:
  void rotate(std::uint64_t next);
  void drop_oldest();

  std::string path_, key_;
  LogLimits limits_;
  Descriptor log_, head_;
  std::deque<Segment> full_;
  std::uint64_t first_ = 1, bytes_ = 0;
  std::string mac_;  // of the last line
};

}  // namespace runner::events
