// An engine's end of --console-socket.
#pragma once

#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <stdexcept>
#include <string>

#include "tests/support/command.h"

namespace tests {

// The engine's side: a socket that gets one descriptor.
class Console {
 public:
  explicit Console(const Folder& folder) : path(folder / "console.sock") {
    listener_ = ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    path.copy(address.sun_path, sizeof address.sun_path - 1);
    if (::bind(listener_, reinterpret_cast<sockaddr*>(&address), sizeof address) || ::listen(listener_, 1)) throw std::runtime_error("console");
  }
  ~Console() {
    ::close(listener_);
    if (master_ >= 0) ::close(master_);
  }
  bool receive() {
    pollfd wait{listener_, POLLIN, 0};
    if (::poll(&wait, 1, 5000) <= 0) return false;
    int connection = ::accept4(listener_, nullptr, nullptr, SOCK_CLOEXEC);
    char data[256] = {};
    alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))];
    iovec part{data, sizeof data - 1};
    msghdr message{};
    message.msg_iov = &part;
    message.msg_iovlen = 1;
    message.msg_control = control;
    message.msg_controllen = sizeof control;
    ssize_t got = ::recvmsg(connection, &message, MSG_CMSG_CLOEXEC);
    ::close(connection);
    cmsghdr* header = CMSG_FIRSTHDR(&message);
    if (got <= 0 || !header || header->cmsg_type != SCM_RIGHTS) return false;
    name = data;
    master_ = *reinterpret_cast<int*>(CMSG_DATA(header));
    return true;
  }
  // What the terminal shows, until it has `text` or its other end is closed.
  std::string until(const std::string& text) {
    while (shown_.find(text) == std::string::npos) {
      pollfd wait{master_, POLLIN, 0};
      char bytes[4096];
      if (::poll(&wait, 1, 5000) <= 0) break;
      ssize_t got = ::read(master_, bytes, sizeof bytes);
      if (got <= 0) break;
      shown_.append(bytes, static_cast<std::size_t>(got));
    }
    return shown_;
  }
  void type(const std::string& text) { (void)!::write(master_, text.data(), text.size()); }
  std::string path, name;

 private:
  int listener_, master_ = -1;
  std::string shown_;
};

}  // namespace tests
