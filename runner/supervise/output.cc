#include "runner/supervise/output.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include <algorithm>
#include <cerrno>

#include "isolate/sys/error.h"
#include "isolate/sys/paths.h"

namespace runner::supervise {

using namespace isolate::sys;

Output::Output(int fd) : fd_(fd) {
  struct stat info;
  check(::fstat(fd, &info), "use descriptor {} for output", fd);
  // A second open file of the same pipe; for a regular file it would have an offset of its own, and writing never blocks there.
  // The master of a terminal (device 5:2) cannot: opening that makes a new terminal.
  bool again = S_ISFIFO(info.st_mode) || (S_ISCHR(info.st_mode) && info.st_rdev != ::makedev(5, 2));
  if (again) own_ = Fd(::open(fd_path(fd).c_str(), O_WRONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC));
  blocking_ = !own_ && !S_ISREG(info.st_mode);
}

void Output::write(std::string_view bytes) {
  if (gone_) return;
  pending_ += bytes;
  flush();
}

void Output::flush() {
  while (waiting() && !gone_) {
    std::size_t size = pending_.size() - sent_;
    if (blocking_) {
      pollfd ready{fd(), POLLOUT, 0};
      if (::poll(&ready, 1, 0) == 0) return;
      size = std::min<std::size_t>(size, 4096);  // what poll(2) promises to take at once: PIPE_BUF
    }
    ssize_t done = ::write(fd(), pending_.data() + sent_, size);
    if (done == -1 && errno == EINTR) continue;
    if (done == -1 && errno == EAGAIN) return;
    if (done == -1) {
      gone_ = true;  // EPIPE, or a full disk: the session's own log has it all
      break;
    }
    sent_ += static_cast<std::size_t>(done);
  }
  pending_.clear();
  sent_ = 0;
}

void Output::drain() {
  while (waiting() && !gone_) {
    pollfd ready{fd(), POLLOUT, 0};
    ::poll(&ready, 1, -1);
    flush();
  }
}

void Output::let_go() {
  gone_ = true;
  pending_.clear();
  sent_ = 0;
  own_.close();
}

}  // namespace runner::supervise
