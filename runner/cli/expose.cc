// A socket of the host whose connections end at a port in the session's network namespace.
//
//   client ──▶ listening socket ──▶ this process ──▶ a socket that was made inside ──▶ 127.0.0.1:PORT there
//
// A socket belongs to the network namespace in which it was made, whoever uses it: a helper inside makes and connects them, and passes them out.
#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include <charconv>
#include <cstring>
#include <functional>
#include <list>
#include <nlohmann/json.hpp>

#include "isolate/sys/error.h"
#include "isolate/sys/file.h"
#include "isolate/sys/paths.h"
#include "isolate/sys/socket.h"
#include "runner/cli/awake.h"
#include "runner/cli/inside.h"

namespace runner::cli {

using namespace isolate::sys;

namespace {

constexpr std::size_t kChunk = 64 << 10;  // and no more than that waits in either direction of a connection

std::uint16_t parse_port(const std::string& text, const char* what, bool zero) {
  unsigned port = 0;
  auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), port);
  if (text.empty() || error != std::errc() || end != text.data() + text.size() || port > 65535 || (port == 0 && !zero))
    throw UsageError(fmt::format("{}: '{}' is no port number", what, shown(text)));
  return static_cast<std::uint16_t>(port);
}

// ---- the listening socket ----------------------------------------------------------------------------------------

class Listener {
 public:
  Listener() = default;
  Listener(const Listener&) = delete;
  ~Listener() {
    struct stat info;
    // Not when somebody has put another in its place.
    if (!path_.empty() && ::fstatat(folder_.get(), name_.c_str(), &info, AT_SYMLINK_NOFOLLOW) == 0 &&
        info.st_ino == inode_)
      ::unlinkat(folder_.get(), name_.c_str(), 0);
  }

  void tcp(const std::string& text) {
    std::size_t colon = text.rfind(':');
    if (colon == std::string::npos)
      throw UsageError(fmt::format("--tcp: '{}' is not ADDRESS:PORT, as 127.0.0.1:0", shown(text)));
    std::string host = text.substr(0, colon);
    std::uint16_t port = parse_port(text.substr(colon + 1), "--tcp", true);
    sockaddr_in four{};
    sockaddr_in6 six{};
    bool is_four = ::inet_pton(AF_INET, host.c_str(), &four.sin_addr) == 1;
    bool is_six = host == "[::1]";
    // What a session serves is for this host's users at most: who wants more puts a proxy of his own before it.
    if (!is_six && !(is_four && ntohl(four.sin_addr.s_addr) >> 24 == 127))
      throw UsageError(fmt::format("--tcp: '{}' is no loopback address (127.0.0.1 or [::1])", shown(host)));
    four.sin_family = AF_INET, four.sin_port = htons(port);
    six.sin6_family = AF_INET6, six.sin6_port = htons(port), six.sin6_addr = in6addr_loopback;
    fd = Fd(
        check(::socket(is_four ? AF_INET : AF_INET6, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0), "make a socket"));
    int on = 1;
    ::setsockopt(fd.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    check(is_four ? ::bind(fd.get(), reinterpret_cast<sockaddr*>(&four), sizeof four)
                  : ::bind(fd.get(), reinterpret_cast<sockaddr*>(&six), sizeof six),
          "listen on {}", text);
    check(::listen(fd.get(), 1024), "listen on {}", text);
    sockaddr_in6 got{};
    socklen_t size = sizeof got;
    check(::getsockname(fd.get(), reinterpret_cast<sockaddr*>(&got), &size), "ask for the port");
    address = fmt::format("{}:{}", host, ntohs(got.sin6_port));  // at the same place in both kinds of addresses
  }

  void unix_socket(const std::string& path) {
    std::size_t slash = path.rfind('/');
    std::string name = slash == std::string::npos ? path : path.substr(slash + 1);
    if (name.empty()) throw UsageError(fmt::format("--unix: '{}' names no file", shown(path)));
    folder_ = open_dir(slash == std::string::npos ? "." : slash == 0 ? "/" : path.substr(0, slash));
    std::string at = fd_path(folder_.get()) + "/" + name;  // a folder may be deeper than sun_path is long
    sockaddr_un where{};
    where.sun_family = AF_UNIX;
    if (at.size() >= sizeof where.sun_path) throw UsageError("--unix: the file's name is too long for a socket");
    std::memcpy(where.sun_path, at.c_str(), at.size() + 1);
    fd = Fd(check(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0), "make a socket"));
    mode_t old = ::umask(0177);
    int bound = ::bind(fd.get(), reinterpret_cast<sockaddr*>(&where), sizeof where);
    ::umask(old);
    check(bound, "listen on {}", path);
    struct stat info;
    check(::fstatat(folder_.get(), name.c_str(), &info, AT_SYMLINK_NOFOLLOW), "look at {}", path);
    path_ = path, name_ = name, inode_ = info.st_ino;
    check(::listen(fd.get(), 1024), "listen on {}", path);
    address = path;
  }

  Fd fd;
  std::string address;

 private:
  Fd folder_;
  std::string path_, name_;
  ino_t inode_ = 0;
};

// ---- the helper inside -------------------------------------------------------------------------------------------

// Asked with '4' or '6', it answers with a socket that is being connected, or with the reason why there is none. Node's servers on
// "localhost" listen on ::1 only, hence both.
void make_connections(int link, std::uint16_t port) {
  while (auto asked = receive_message(link)) {
    bool six = asked->bytes == "6";
    sockaddr_in to4{};
    to4.sin_family = AF_INET, to4.sin_port = htons(port), to4.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    sockaddr_in6 to6{};
    to6.sin6_family = AF_INET6, to6.sin6_port = htons(port), to6.sin6_addr = in6addr_loopback;
    Fd fd(::socket(six ? AF_INET6 : AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    int done = !fd   ? -1
               : six ? ::connect(fd.get(), reinterpret_cast<sockaddr*>(&to6), sizeof to6)
                     : ::connect(fd.get(), reinterpret_cast<sockaddr*>(&to4), sizeof to4);
    if (done == -1 && errno != EINPROGRESS)
      send_message(link, std::to_string(errno));
    else
      send_message(link, "0", {fd.get()});
  }
}

// ---- the relay ---------------------------------------------------------------------------------------------------

// One direction of a connection. Nothing is read while something waits to be written: so one chunk is the most that is held.
struct Flow {
  std::string waiting;
  bool ended = false;  // the reader's end, and told to the writer
};

struct Connection {
  Fd client, server;
  Flow up, down;  // from the client to the server, and back
  bool connecting = true, six = false, dead = false;
};

class Relay {
 public:
  Relay(Listener& listener, int pidfd, int signals, int link, std::function<Fd()> wake)
      : listener_(listener), link_(link), wake_(std::move(wake)) {
    epoll_ = Fd(check(::epoll_create1(EPOLL_CLOEXEC), "make an epoll instance"));
    rlimit files{};
    ::getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    ::setrlimit(RLIMIT_NOFILE, &files);
    most_ = files.rlim_cur < 64 ? 8 : (files.rlim_cur - 32) / 2;
    for (int* fd : {&pidfd, &signals}) watch(*fd, EPOLLIN, &end_);
    watch(listener_.fd.get(), EPOLLIN, &listener_);
  }

  void run() {
    for (bool end = false; !end;) {
      epoll_event events[64];
      int count = ::epoll_wait(epoll_.get(), events, 64, -1);
      if (count == -1 && errno == EINTR) continue;
      check(count, "wait for connections");
      for (int i = 0; i < count; ++i) {
        if (events[i].data.ptr == &end_)
          end = true;
        else if (events[i].data.ptr == &listener_)
          accept_some();
        else
          serve(*static_cast<Connection*>(events[i].data.ptr), events[i].events);
      }
      // Only now: a later event of the same round may be of the same connection.
      connections_.remove_if([](const Connection& c) { return c.dead; });
      if (connections_.empty()) awake_.close();
      listen(connections_.size() < most_);
    }
  }

 private:
  void watch(int fd, std::uint32_t events, void* owner) {
    epoll_event event{};
    event.events = events;
    event.data.ptr = owner;
    if (::epoll_ctl(epoll_.get(), EPOLL_CTL_MOD, fd, &event) == -1)
      check(::epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, fd, &event), "wait for a descriptor");
  }

  // Beyond what descriptors allow, clients wait in the socket's queue.
  void listen(bool on) {
    if (on != listening_) watch(listener_.fd.get(), on ? std::uint32_t{EPOLLIN} : std::uint32_t{0}, &listener_);
    listening_ = on;
  }

  // Empty when there is no connection to be had.
  Fd connect(bool six) {
    send_message(link_, six ? "6" : "4");
    auto answer = receive_message(link_);
    if (!answer) throw std::runtime_error("the helper inside the sandbox was ended");
    return answer->fds.empty() ? Fd() : std::move(answer->fds[0]);
  }

  void accept_some() {
    for (int i = 0; i < 64 && connections_.size() < most_; ++i) {
      Fd client(::accept4(listener_.fd.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
      if (!client) {
        if (errno == EAGAIN || errno == EINTR || errno == ECONNABORTED) return;
        if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM) return listen(false);
        fail(errno, "accept a connection");
      }
      if (!awake_) awake_ = wake_();
      Connection& c = connections_.emplace_back();
      c.client = std::move(client);
      c.server = connect(false);
      if (c.server)
        watch(c.server.get(), EPOLLOUT, &c);
      else
        refuse(c);
    }
  }

  // The client is to see that nobody listens inside, as far as a connection that is made already can tell: a reset.
  void refuse(Connection& c) {
    linger now{1, 0};
    ::setsockopt(c.client.get(), SOL_SOCKET, SO_LINGER, &now, sizeof now);
    end(c);
  }

  void end(Connection& c) {
    c.dead = true;
    c.client.close();
    c.server.close();
  }

  void serve(Connection& c, std::uint32_t events) {
    if (c.dead) return;
    if (c.connecting) {
      int error = 0;
      socklen_t size = sizeof error;
      ::getsockopt(c.server.get(), SOL_SOCKET, SO_ERROR, &error, &size);
      if (error == ECONNREFUSED && !c.six) {
        c.six = true;
        c.server = connect(true);
        return c.server ? watch(c.server.get(), EPOLLOUT, &c) : refuse(c);
      }
      if (error) return refuse(c);
      c.connecting = false;
      int on = 1;
      for (Fd* fd : {&c.client, &c.server}) ::setsockopt(fd->get(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    }
    if (!move(c.client.get(), c.server.get(), c.up) || !move(c.server.get(), c.client.get(), c.down) ||
        (c.up.ended && c.down.ended))
      return end(c);
    // An end that was reset says so even when it is not asked; after a half-close that would wake us for ever.
    if (events & EPOLLERR) return end(c);
    wait_for(c.client.get(), c.up, c.down, c);
    wait_for(c.server.get(), c.down, c.up, c);
  }

  void wait_for(int fd, const Flow& from, const Flow& to, Connection& c) {
    std::uint32_t events = (!from.ended && from.waiting.empty() ? std::uint32_t{EPOLLIN} : std::uint32_t{0}) |
                           (to.waiting.empty() ? std::uint32_t{0} : std::uint32_t{EPOLLOUT});
    // EPOLLHUP cannot be left out, and comes when both directions are over while the other side still takes its time: then not at all.
    if (events)
      watch(fd, events, &c);
    else
      ::epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, fd, nullptr);
  }

  // False when the connection is broken.
  bool move(int from, int to, Flow& flow) {
    for (int turns = 0; turns < 16; ++turns) {  // then it is another's turn
      while (!flow.waiting.empty()) {
        ssize_t sent = ::send(to, flow.waiting.data(), flow.waiting.size(), MSG_NOSIGNAL);
        if (sent == -1 && errno == EINTR) continue;
        if (sent == -1) return errno == EAGAIN;
        flow.waiting.erase(0, static_cast<std::size_t>(sent));
      }
      if (flow.ended) return true;
      ssize_t got = ::recv(from, chunk_.data(), chunk_.size(), 0);
      if (got == -1 && errno == EINTR) continue;
      if (got == -1) return errno == EAGAIN;
      if (got == 0) {
        flow.ended = true;
        ::shutdown(to, SHUT_WR);
        return true;
      }
      std::size_t size = static_cast<std::size_t>(got);
      ssize_t sent = ::send(to, chunk_.data(), size,
                            MSG_NOSIGNAL);  // mostly it goes at once, and an idle connection holds nothing
      if (sent == -1 && errno != EAGAIN && errno != EINTR) return false;
      flow.waiting.assign(chunk_.data() + std::max<ssize_t>(sent, 0),
                          size - static_cast<std::size_t>(std::max<ssize_t>(sent, 0)));
      if (flow.waiting.empty()) std::string().swap(flow.waiting);
    }
    return true;
  }

  Listener& listener_;
  int link_;
  std::function<Fd()> wake_;
  Fd awake_;  // while there are connections
  char end_ = 0;
  Fd epoll_;
  std::size_t most_;
  bool listening_ = true;
  std::list<Connection> connections_;
  std::string chunk_ = std::string(kChunk, '\0');
};

}  // namespace

int expose_main(Context& context) {
  std::string path, tcp;
  Options options(
      "expose",
      "Relay connections to a port inside a session, until a signal or its end: runner expose [flags] ID PORT");
  options.value("--unix", path, "listen on this socket, which only this user may connect to");
  options.value("--tcp", tcp, "listen on this loopback address and port; 127.0.0.1:0, a free port, by default");
  std::vector<std::string> arguments = context.parse(options);
  if (arguments.size() != 2) throw UsageError("expose: takes ID and PORT");
  if (!path.empty() && !tcp.empty()) throw UsageError("expose: --unix and --tcp exclude each other");
  std::uint16_t port = parse_port(arguments[1], "expose", false);
  Target target = find_target(context, arguments[0], "expose");
  Listener listener;
  path.empty() ? listener.tcp(tcp.empty() ? "127.0.0.1:0" : tcp) : listener.unix_socket(path);

  auto [ours, theirs] = socket_pair();
  isolate::Place place = target.place();
  place.network = true;
  isolate::Helper helper(place, {theirs.get()}, [&](isolate::Report&) { make_connections(theirs.get(), port); });
  theirs.close();
  Fd signals = ending_signals();
  fmt::print("{}\n", nlohmann::json{{"listening", listener.address}}.dump(-1, ' ', true,
                                                                          nlohmann::json::error_handler_t::replace));
  std::fflush(stdout);
  session::Entry entry = context.entry(target.id);
  Fd stays = keep_in_memory(entry, target.state);  // its processes are those that we know
  target.awake.close();
  auto wake = [&] { return awaken(context, entry, target.state); };
  Relay(listener, target.process.get(), signals.get(), ours.get(), wake).run();
  return 0;
}

}  // namespace runner::cli
