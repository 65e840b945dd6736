#include "runner/cli/ready_socket.h"

#include <fmt/format.h>
#include <poll.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>
#include <sstream>

#include "isolate/environment.h"
#include "isolate/sys/error.h"
#include "isolate/sys/file.h"
#include "isolate/sys/socket.h"

namespace runner::cli {

using namespace isolate::sys;

namespace {

constexpr const char* kFolder = "notify";
constexpr const char* kInside = "/run/notify";
constexpr const char* kName = "/notify.sock";

bool says_ready(const std::string& message) {
  std::istringstream lines(message);
  for (std::string line; std::getline(lines, line);)
    if (line == "READY=1") return true;
  return false;
}

}  // namespace

void offer_ready_socket(const session::Entry& entry, isolate::Plan& plan, session::State& state) {
  const char* theirs = std::getenv("NOTIFY_SOCKET");
  if (!theirs || (*theirs != '/' && *theirs != '@')) return;
  state.notify = theirs;
  make_dirs(entry.file(kFolder), 0755);
  isolate::Mount mount;
  mount.to = kInside;
  mount.what = isolate::Bind{entry.file(kFolder), false};
  mount.set = MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC | MOUNT_ATTR_RDONLY;
  plan.mounts.push_back(mount);
  isolate::set_variable(plan.process.env, fmt::format("NOTIFY_SOCKET={}{}", kInside, kName));
}

ReadySocket ReadySocket::listen(const session::Entry& entry, const session::State& state) {
  ReadySocket made;
  if (state.notify.empty()) return made;
  std::string path = fmt::format("{}{}", entry.file(kFolder), kName);
  made.tell_ = state.notify;
  made.socket_ = listen_at(path, SOCK_DGRAM);
  check(::chmod(path.c_str(), 0777), "open {} to the container's users", path);
  return made;
}

void ReadySocket::wait(int pidfd, pid_t main) const {
  if (!socket_) return;
  for (;;) {
    pollfd ready[] = {{socket_.get(), POLLIN, 0}, {pidfd, POLLIN, 0}};
    if (::poll(ready, 2, -1) == -1 && errno != EINTR) fail(errno, "wait for the container to be ready");
    char bytes[4096];
    ssize_t size = ::recv(socket_.get(), bytes, sizeof bytes, MSG_DONTWAIT);
    if (size > 0 && says_ready(std::string(bytes, static_cast<std::size_t>(size)))) break;
    if (size <= 0 && ready[1].revents) return;
  }
  // In one message: when systemd hears that the service is ready it knows which process that is.
  std::string text = main ? fmt::format("MAINPID={}\nREADY=1\n", main) : "READY=1\n";
  Fd systemd = connect_to(tell_, SOCK_DGRAM);
  check(::send(systemd.get(), text.data(), text.size(), MSG_NOSIGNAL), "tell {} that the container is ready", tell_);
}

Child ReadySocket::wait_aside(int pidfd) const {
  if (!socket_) return Child();
  Child child = clone_process(0);
  if (child.pid() != 0) return child;
  try {
    wait(pidfd, 0);
  } catch (const std::exception&) {
    // The container runs, whoever hears that it is ready or not.
  }
  ::_exit(0);
}

}  // namespace runner::cli
