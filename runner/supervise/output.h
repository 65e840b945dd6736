// A descriptor that somebody else reads, at their own pace: stdout, --events-fd.
#pragma once

#include <string>
#include <string_view>

#include "isolate/sys/fd.h"

namespace runner::supervise {

/// Writes without ever blocking; what cannot go out yet waits in a buffer, and full() asks its owner to stop producing.
/// A reader that is gone ends it: later writes go nowhere, and gone() says so.
class Output {
 public:
  static constexpr std::size_t kFull = 1 << 20;  // bytes

  /// `fd` stays the caller's. A pipe or terminal is opened again, so that O_NONBLOCK is not set for those who share it.
  explicit Output(int fd);

  void write(std::string_view bytes);
  bool full() const { return pending_.size() - sent_ >= kFull; }
  bool waiting() const { return pending_.size() > sent_; }  ///< poll fd() for POLLOUT, then flush()
  bool gone() const { return gone_; }
  int fd() const { return own_ ? own_.get() : fd_; }
  void flush();
  void drain();  ///< waits until all is out, or the reader is gone
  void let_go();  ///< nothing is written from here on, and nothing of ours keeps the stream open

 private:
  isolate::sys::Fd own_;
  int fd_;
  bool blocking_ = true;  // a file, or a socket that cannot be opened again: written as far as poll(2) allows
  bool gone_ = false;
  std::string pending_;
  std::size_t sent_ = 0;
};

}  // namespace runner::supervise
