#include "isolate/sys/socket.h"

#include <fcntl.h>
#include <poll.h>
#include <unistd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include <cstring>

#include "isolate/sys/error.h"
#include "isolate/sys/file.h"
#include "isolate/sys/paths.h"

namespace isolate::sys {

namespace {

constexpr std::size_t kLargest = 64 << 10;
constexpr std::size_t kMostFds = 16;

struct Address {
  sockaddr_un name{};
  socklen_t size = sizeof name;
  Fd folder;
  const sockaddr* get() const { return reinterpret_cast<const sockaddr*>(&name); }
};

// sun_path holds 107 bytes; a state directory may be deeper, so the name is given through its folder's descriptor.
Address address_of(const std::string& path) {
  Address address;
  address.name.sun_family = AF_UNIX;
  if (path[0] == '@' && path.size() < sizeof address.name.sun_path) {  // abstract, unix(7): a zero in the place of '@'
    std::memcpy(address.name.sun_path + 1, path.data() + 1, path.size() - 1);
    address.size = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + path.size());
    return address;
  }
  std::size_t slash = path.rfind('/');
  address.folder = open_dir(slash == std::string::npos ? "." : slash == 0 ? "/" : path.substr(0, slash));
  std::string name = fd_path(address.folder.get()) + "/" + path.substr(slash == std::string::npos ? 0 : slash + 1);
  if (name.size() >= sizeof address.name.sun_path) fail(ENAMETOOLONG, "use {} as a socket", path);
  std::memcpy(address.name.sun_path, name.c_str(), name.size() + 1);
  return address;
}

}  // namespace

std::pair<Fd, Fd> socket_pair() {
  int ends[2];
  check(::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends), "make a socket pair");
  return {Fd(ends[0]), Fd(ends[1])};
}

std::pair<Fd, Fd> make_pipe() {
  int ends[2];
  check(::pipe2(ends, O_CLOEXEC), "make a pipe");
  return {Fd(ends[0]), Fd(ends[1])};
}

bool send_parts(int socket, std::span<const std::string_view> parts, const std::vector<int>& fds, bool dont_wait) {
  if (fds.size() > kMostFds) fail(E2BIG, "send {} descriptors", fds.size());
  std::vector<iovec> pieces;
  for (std::string_view part : parts) pieces.push_back({const_cast<char*>(part.data()), part.size()});
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int) * kMostFds)] = {};
  msghdr header{};
  header.msg_iov = pieces.data();
  header.msg_iovlen = pieces.size();
  if (!fds.empty()) {
    header.msg_control = control;
    header.msg_controllen = CMSG_SPACE(sizeof(int) * fds.size());
    cmsghdr* item = CMSG_FIRSTHDR(&header);
    item->cmsg_level = SOL_SOCKET;
    item->cmsg_type = SCM_RIGHTS;
    item->cmsg_len = CMSG_LEN(sizeof(int) * fds.size());
    std::memcpy(CMSG_DATA(item), fds.data(), sizeof(int) * fds.size());
  }
  ssize_t sent;
  do sent = ::sendmsg(socket, &header, MSG_NOSIGNAL | (dont_wait ? MSG_DONTWAIT : 0));
  while (sent == -1 && errno == EINTR);
  if (sent == -1 && dont_wait && errno == EAGAIN) return false;
  check(sent, "send a message");
  return true;
}

void send_message(int socket, const std::string& bytes, const std::vector<int>& fds) {
  std::string_view whole = bytes;
  send_parts(socket, {&whole, 1}, fds);
}

bool readable(int socket) {
  pollfd look{socket, POLLIN, 0};
  return ::poll(&look, 1, 0) == 1;
}

std::optional<Message> receive_message(int socket, std::span<char> head) {
  char buffer[kLargest];  // of this call alone: an agent receives in several threads
  Message message;
  iovec parts[] = {{head.data(), head.size()}, {buffer, sizeof buffer}};
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int) * kMostFds)];
  msghdr header{};
  header.msg_iov = parts;
  header.msg_iovlen = 2;
  header.msg_control = control;
  header.msg_controllen = sizeof control;
  ssize_t got;
  do got = ::recvmsg(socket, &header, MSG_CMSG_CLOEXEC);
  while (got == -1 && errno == EINTR);
  if (got == -1 && errno == ECONNRESET) return std::nullopt;
  check(got, "receive a message");
  for (cmsghdr* item = CMSG_FIRSTHDR(&header); item; item = CMSG_NXTHDR(&header, item)) {
    if (item->cmsg_level != SOL_SOCKET || item->cmsg_type != SCM_RIGHTS) continue;
    std::size_t count = (item->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    for (std::size_t i = 0; i < count; ++i) {
      int fd;
      std::memcpy(&fd, CMSG_DATA(item) + i * sizeof(int), sizeof fd);
      message.fds.emplace_back(fd);
    }
  }
  if (header.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) fail(EMSGSIZE, "receive a message");
  if (got == 0) return std::nullopt;
  if (static_cast<std::size_t>(got) < head.size()) fail(EPROTO, "receive a message (it is cut short)");
  message.bytes.assign(buffer, static_cast<std::size_t>(got) - head.size());
  return message;
}

Fd listen_at(const std::string& path, int type) {
  Fd socket(check(::socket(AF_UNIX, type | SOCK_CLOEXEC, 0), "make a socket"));
  Address address = address_of(path);
  mode_t old = ::umask(0177);
  int bound = ::bind(socket.get(), address.get(), address.size);
  ::umask(old);
  check(bound, "bind a socket to {}", path);
  if (type != SOCK_DGRAM) check(::listen(socket.get(), 1), "listen on {}", path);
  return socket;
}

Fd connect_to(const std::string& path, int type) {
  Fd socket(check(::socket(AF_UNIX, type | SOCK_CLOEXEC, 0), "make a socket"));
  Address address = address_of(path);
  check(::connect(socket.get(), address.get(), address.size), "connect to {}", path);
  return socket;
}

}  // namespace isolate::sys
