#include "runner/cli/inside.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/signalfd.h>
#include <time.h>

#include "isolate/sys/error.h"
#include "runner/cli/awake.h"

namespace runner::cli {

using namespace isolate::sys;

isolate::Place Target::place() const {
  isolate::Place place;
  place.pidfd = process.get();
  place.pid = state.pid;
  place.uid = first.uid;
  place.gid = first.gid;
  return place;
}

Target find_target(Context& context, const std::string& id, const std::string& verb) {
  session::Entry entry = context.entry(id);
  Target target;
  target.id = id;
  target.state = entry.read_state();
  target.awake = awaken(context, entry, target.state);
  target.process = session::open_process(target.state);
  if (!target.process) throw std::runtime_error(fmt::format("{}: {} is not running", verb, id));
  target.first = entry.read_process().process;
  return target;
}

void Stream::wait(short events) {
  pollfd waits[] = {{fd_, events, 0}, {until_, POLLIN, 0}};
  int ready;
  do ready = ::poll(waits, 2, -1);
  while (ready == -1 && errno == EINTR);
  check(ready, "wait for {}", name_);
  if (waits[1].revents) throw std::runtime_error("the sandbox has ended");
}

std::size_t Stream::read(char* to, std::size_t size) {
  for (;;) {
    if (until_ >= 0) wait(POLLIN);
    ssize_t got = ::read(fd_, to, size);
    if (got == -1 && errno == EAGAIN)
      wait(POLLIN);
    else if (got != -1 || errno != EINTR)
      return static_cast<std::size_t>(check(got, "read {}", name_));
  }
}

void Stream::write(std::string_view bytes) {
  while (!bytes.empty()) {
    ssize_t done = ::write(fd_, bytes.data(), bytes.size());
    if (done == -1 && errno == EAGAIN)
      wait(POLLOUT);
    else if (done != -1 || errno != EINTR)
      bytes.remove_prefix(static_cast<std::size_t>(check(done, "write to {}", name_)));
  }
}

std::pair<Fd, Fd> wide_pipe() {
  auto ends = make_pipe();
  (void)::fcntl(ends.second.get(), F_SETPIPE_SZ, 1 << 20);  // refused when the user has many: it is only faster
  return ends;
}

std::string printable(std::string text) {
  for (char& c : text)
    if (static_cast<unsigned char>(c) < ' ' || c == 127) c = '?';
  return text;
}

Fd ending_signals() {
  sigset_t ending;
  ::sigemptyset(&ending);
  for (int number : {SIGTERM, SIGINT, SIGHUP, SIGQUIT}) ::sigaddset(&ending, number);
  check(::sigprocmask(SIG_BLOCK, &ending, nullptr), "block signals");
  ::signal(SIGPIPE, SIG_IGN);
  return Fd(check(::signalfd(-1, &ending, SFD_CLOEXEC | SFD_NONBLOCK), "make a signalfd"));
}

}  // namespace runner::cli
