// runner expose: bytes, half-closes and refusals come through as they are, and nobody else gets in.
#include <arpa/inet.h>
#include <doctest/doctest.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstring>

#include "tests/kernel/live.h"

using namespace tests;
using nlohmann::json;

namespace {

// 5000: sends back what it got, once it got all. 5001: sends 8 MiB and then reads. 5002: takes nothing. 5006: as 5000, on ::1 only.
constexpr const char* kServer = R"(
import socket, threading, time
def echo(c):
    data = b''
    while True:
        more = c.recv(65536)
        if not more: break
        data += more
    c.sendall(data); c.close()
def pour(c):
    c.sendall(b'x' * (8 << 20)); c.shutdown(socket.SHUT_WR)
    data = b''
    while True:
        more = c.recv(65536)
        if not more: break
        data += more
    open('/tmp/got', 'wb').write(data)
    c.close()
def stall(c): time.sleep(100)
def serve(family, host, port, what):
    s = socket.socket(family, socket.SOCK_STREAM)
    s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    s.bind((host, port)); s.listen(600)
    def loop():
        while True:
            threading.Thread(target=what, args=(s.accept()[0],), daemon=True).start()
    threading.Thread(target=loop, daemon=True).start()
serve(socket.AF_INET, '127.0.0.1', 5000, echo)
serve(socket.AF_INET, '127.0.0.1', 5001, pour)
serve(socket.AF_INET, '127.0.0.1', 5002, stall)
serve(socket.AF_INET6, '::1', 5006, echo)
open('/tmp/started', 'w').close()
time.sleep(120)
)";

struct Server {
  Folder work;
  Box box;
  Server() {
    work.write("server.py", kServer);
    Ran ran = runner(session_arguments(box.id, {"-d", "-v", work.path() + ":/workspace"},
                                       {"python3", "/workspace/server.py"}),
                     {.timeout_ms = 20'000});
    if (ran.code != 0) throw std::runtime_error("the session did not start: " + ran.err);
    eventually([&] { return runner({"exec", box.id, "test", "-e", "/tmp/started"}).code == 0; });
  }
};

// A client of the host.
struct Client {
  int fd = -1;
  explicit Client(const std::string& address) {
    if (address[0] == '/') {
      fd = ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
      sockaddr_un to{};
      to.sun_family = AF_UNIX;
      std::strncpy(to.sun_path, address.c_str(), sizeof to.sun_path - 1);
      if (::connect(fd, reinterpret_cast<sockaddr*>(&to), sizeof to)) throw std::runtime_error("connect");
    } else {
      fd = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
      sockaddr_in to{};
      to.sin_family = AF_INET;
      to.sin_port = htons(static_cast<std::uint16_t>(std::stoi(address.substr(address.rfind(':') + 1))));
      to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
      if (::connect(fd, reinterpret_cast<sockaddr*>(&to), sizeof to)) throw std::runtime_error("connect");
    }
    timeval limit{20, 0};
    ::setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
  }
  Client(Client&& other) noexcept : fd(std::exchange(other.fd, -1)) {}
  ~Client() {
    if (fd >= 0) ::close(fd);
  }
  bool send(const std::string& text) {
    for (std::size_t at = 0; at < text.size();) {
      ssize_t done = ::send(fd, text.data() + at, text.size() - at, MSG_NOSIGNAL);
      if (done <= 0) return false;
      at += static_cast<std::size_t>(done);
    }
    return true;
  }
  void half_close() { ::shutdown(fd, SHUT_WR); }
  std::string rest() {
    std::string text;
    char bytes[65536];
    ssize_t got;
    while ((got = ::recv(fd, bytes, sizeof bytes, 0)) > 0) text.append(bytes, static_cast<std::size_t>(got));
    return got == 0 ? text : text + "<error>";
  }
};

struct Exposed {
  Live live;
  std::string address;
  explicit Exposed(const Args& words) : live(runner_argv(words)) {
    if (!live.await("\n")) throw std::runtime_error("expose did not start: " + live.err);
    address = json::parse(live.out).at("listening");
  }
};

}  // namespace

TEST_SUITE("expose") {
  TEST_CASE("bytes go both ways through TCP and unix sockets, with half-closes, many at once") {
    SKIP_UNLESS(is_root(), "root");
    Server s;
    Folder folder;
    {
      Exposed tcp({"expose", s.box.id, "5000"}), local({"expose", "--unix", folder / "sock", s.box.id, "5000"});
      CHECK(tcp.address.rfind("127.0.0.1:", 0) == 0);
      CHECK(local.address == folder / "sock");
      struct stat info;
      REQUIRE(::stat((folder / "sock").c_str(), &info) == 0);
      CHECK((info.st_mode & 0777) == 0600);
      for (const std::string& address : {tcp.address, local.address}) {
        Client c(address);
        std::string text = "hello\0world";
        CHECK(c.send(text));
        c.half_close();
        CHECK(c.rest() == text);
        std::string large(5 << 20, 'q');
        Client d(address);
        CHECK(d.send(large));
        d.half_close();
        CHECK((d.rest() == large));
        std::vector<Client> many;
        for (int i = 0; i < 200; ++i) many.emplace_back(address);
        for (int i = 0; i < 200; ++i) many[static_cast<std::size_t>(i)].send(std::to_string(i));
        int right = 0;
        for (int i = 199; i >= 0; --i) {
          many[static_cast<std::size_t>(i)].half_close();
          right += many[static_cast<std::size_t>(i)].rest() == std::to_string(i);
        }
        CHECK(right == 200);
      }
      Exposed pour({"expose", s.box.id, "5001"});
      Client p(pour.address);
      CHECK(p.rest().size() == 8 << 20);  // the server has shut down its side, and reads on
      CHECK(p.send("afterwards"));
      p.half_close();
      CHECK(eventually([&] { return runner({"exec", s.box.id, "cat", "/tmp/got"}).out == "afterwards"; }));
      Exposed six({"expose", s.box.id, "5006"});
      Client v6(six.address);
      v6.send("six");
      v6.half_close();
      CHECK(v6.rest() == "six");
      local.live.signal(SIGTERM);
      CHECK(local.live.wait() == 0);
      CHECK(!exists(folder / "sock"));
    }
    CHECK(eventually([&] { return processes_with(s.box.id + std::string(1, '\0') + "500").empty(); }, 2000));
  }

  TEST_CASE("a server that takes nothing costs no memory, and a port where nobody listens is a reset") {
    SKIP_UNLESS(is_root(), "root");
    Server s;
    Exposed stall({"expose", s.box.id, "5002"}), none({"expose", s.box.id, "5999"});
    Client c(stall.address);
    timeval limit{1, 0};
    ::setsockopt(c.fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
    CHECK(!c.send(std::string(256 << 20, 'z')));
    std::string status = read("/proc/" + std::to_string(stall.live.pid()) + "/status");
    CHECK(std::stol(status.substr(status.find("VmRSS:") + 6)) < 16'384);  // KiB
    Client refused(none.address);
    CHECK(refused.rest() == "<error>");
    CHECK(none.live.wait(100) == -1);  // it goes on
    // Idle, it does not spin: this is its CPU time in clock ticks.
    auto ticks = [&] {
      std::string stat = read("/proc/" + std::to_string(stall.live.pid()) + "/stat");
      Args fields;
      for (std::size_t at = stat.rfind(')') + 2, end;
           fields.size() < 14 && (end = stat.find(' ', at)) != std::string::npos; at = end + 1)
        fields.push_back(stat.substr(at, end - at));
      return std::stol(fields[11]) + std::stol(fields[12]);
    };
    long before = ticks();
    ::usleep(500'000);
    CHECK(ticks() - before < 10);
    REQUIRE(runner({"kill", s.box.id, "KILL"}).code == 0);
    CHECK(stall.live.wait() == 0);
    CHECK(none.live.wait() == 0);
  }

  TEST_CASE("bad input is an error, and nothing listens") {
    SKIP_UNLESS(is_root(), "root");
    Box box;
    REQUIRE(runner(session_arguments(box.id, {"-d"}, {"/probe", "sleep", "60"}), {.timeout_ms = 10'000}).code == 0);
    Folder folder;
    folder.write("file", "mine");
    auto fails = [&](Args words) {
      words.insert(words.begin(), "expose");
      Ran ran = runner(words, {.timeout_ms = 5000});
      CAPTURE(words.back());
      CHECK(ran.code == 1);
      CHECK(ran.out == "");
      return ran.err;
    };
    for (const char* port : {"0", "65536", "-1", "http", "80x", ""}) fails({box.id, port});
    for (const char* where : {"0.0.0.0:0", "192.168.0.1:80", "127.0.0.1", "localhost:0", "[::]:0", "127.0.0.1:99999"})
      CHECK(fails({"--tcp", where, box.id, "80"}).find("--tcp") != std::string::npos);
    fails({"--tcp", "127.0.0.1:0", "--unix", folder / "s", box.id, "80"});
    fails({"--unix", folder / "file", box.id, "80"});
    CHECK(read(folder / "file") == "mine");
    fails({"--unix", folder / "no/such", box.id, "80"});
    fails({box.id});
    CHECK(fails({"no-such", "80"}).find("does not exist") != std::string::npos);
    REQUIRE(runner({"kill", box.id, "KILL"}).code == 0);
    REQUIRE(eventually([&] { return box.status() == "stopped"; }));
    CHECK(fails({"--unix", folder / "s", box.id, "80"}).find("not running") != std::string::npos);
    CHECK(!exists(folder / "s"));
  }
}
