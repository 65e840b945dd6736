#include "runner/supervise/tty.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "isolate/sys/error.h"
#include "isolate/sys/file.h"
#include "runner/supervise/output.h"

namespace runner::supervise {

using namespace isolate::sys;

namespace {

// False at the end of `from`. EIO is how the master of a terminal says that nobody holds the other end.
bool copy_some(int from, Output& to) {
  char bytes[32768];
  ssize_t got = ::read(from, bytes, sizeof bytes);
  if (got > 0) to.write({bytes, static_cast<std::size_t>(got)});
  return got > 0 || (got == -1 && (errno == EAGAIN || errno == EINTR));
}

}  // namespace

RawMode::RawMode(int fd) {
  if (::tcgetattr(fd, &saved_) == -1) return;
  termios raw = saved_;
  ::cfmakeraw(&raw);
  if (::tcsetattr(fd, TCSANOW, &raw) == 0) fd_ = fd;
}

RawMode::~RawMode() {
  if (fd_ >= 0) ::tcsetattr(fd_, TCSANOW, &saved_);
}

void leave_newlines(int terminal) {
  termios mode;
  if (::tcgetattr(terminal, &mode) == -1) return;
  mode.c_oflag &= ~static_cast<tcflag_t>(ONLCR);
  ::tcsetattr(terminal, TCSANOW, &mode);
}

void copy_window_size(int from, int to) {
  winsize size;
  if (::ioctl(from, TIOCGWINSZ, &size) == 0) ::ioctl(to, TIOCSWINSZ, &size);
}

Fd catch_signals() {
  ::signal(SIGPIPE, SIG_IGN);
  sigset_t set;
  ::sigfillset(&set);
  for (int fault : {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT, SIGTRAP, SIGSYS, SIGPIPE}) ::sigdelset(&set, fault);
  check(::sigprocmask(SIG_BLOCK, &set, nullptr), "block signals");
  return Fd(check(::signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK), "listen for signals"));
}

Ends ends_of(Fd terminal) {
  Ends ends;
  if (!terminal) return ends;
  ends.terminal = true;
  ends.out = Fd(check(::fcntl(terminal.get(), F_DUPFD_CLOEXEC, 0), "keep the terminal"));
  ends.in = std::move(terminal);
  return ends;
}

Exit relay(Child& child, Ends ends) {
  Fd signals = catch_signals();
  RawMode raw(ends.terminal ? 0 : -1);
  if (ends.terminal) copy_window_size(0, ends.in.get());
  std::optional<Output> in;
  if (ends.in) in.emplace(ends.in.get());
  Output out(1), err(2);
  bool input_open = static_cast<bool>(ends.in);
  std::optional<Exit> exit;
  while (!exit || ends.out || ends.err) {
    pollfd wait[] = {
        {exit ? -1 : child.pidfd(), POLLIN, 0},
        {signals.get(), POLLIN, 0},
        {input_open && !in->full() ? 0 : -1, POLLIN, 0},
        {ends.out && !out.full() ? ends.out.get() : -1, POLLIN, 0},
        {ends.err && !err.full() ? ends.err.get() : -1, POLLIN, 0},
        {in && in->waiting() ? in->fd() : -1, POLLOUT, 0},
        {out.waiting() ? out.fd() : -1, POLLOUT, 0},
        {err.waiting() ? err.fd() : -1, POLLOUT, 0},
    };
    // When the program has ended, what it wrote is there already; a background job may hold the stream open for ever.
    if (::poll(wait, 8, exit && !out.full() && !err.full() ? 0 : -1) == 0 && exit) break;
    if (wait[0].revents) exit = child.try_wait();
    signalfd_siginfo info;
    while (wait[1].revents && ::read(signals.get(), &info, sizeof info) == sizeof info) {
      int number = static_cast<int>(info.ssi_signo);
      if (number == SIGWINCH && ends.terminal) copy_window_size(0, ends.in.get());
      else if (number != SIGCHLD && number != SIGWINCH && !exit) child.signal(number);
    }
    if (wait[2].revents && !copy_some(0, *in)) {
      input_open = false;
      if (!ends.terminal) {  // the program sees the end of its input
        in->drain();
        in.reset();
        ends.in.close();
      }
    }
    if (wait[3].revents && !copy_some(ends.out.get(), out)) ends.out.close();
    if (wait[4].revents && !copy_some(ends.err.get(), err)) ends.err.close();
    if (in && wait[5].revents) in->flush();
    if (wait[6].revents) out.flush();
    if (wait[7].revents) err.flush();
  }
  out.drain();
  err.drain();
  return *exit;
}

}  // namespace runner::supervise
