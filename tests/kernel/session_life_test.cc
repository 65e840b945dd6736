// The life of a session from outside: detached, signalled, killed with its supervisor, logged.
#include <doctest/doctest.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <chrono>
#include <filesystem>
#include <fstream>

#include "tests/kernel/live.h"

using namespace tests;
using nlohmann::json;

namespace {

std::string log_of(const Box& box) { return data_dir() + "/sessions/" + box.id + "/events.ndjson"; }

// Started, with a program inside that says so.
struct Background {
  Box box;
  Live live;
  explicit Background(const Args& flags = {}, const Args& command = {"/probe", "sleep", "60"})
      : live(runner_argv(session_arguments(box.id, flags, command))) {
    if (!live.await("ready=")) throw std::runtime_error("the session did not start: " + live.err);
  }
  pid_t init() const { return box.state()["pid"]; }
  json end() { return ended(events_of(live.out)); }
};

}  // namespace

TEST_SUITE("session life") {
  TEST_CASE("-d leaves the session running; state, list, exec, kill, logs and delete find it, and then nothing is left") {
    SKIP_UNLESS(is_root(), "root");
    Box box;
    Ran ran = runner(session_arguments(box.id, {"-d"}, {"/probe", "sleep", "60"}), {.timeout_ms = 10'000});
    CHECK(ran.code == 0);  // and not -1: nothing holds the caller's pipes
    CHECK(box.status() == "running");
    CHECK(runner({"list", "-q"}).out.find(box.id) != std::string::npos);
    CHECK(runner({"exec", box.id, "/probe", "cwd"}).out == "cwd=/workspace\n");
    pid_t init = box.state()["pid"];
    CHECK(runner({"delete", box.id}).code == 1);  // it runs
    CHECK(runner({"kill", box.id, "KILL"}).code == 0);
    CHECK(eventually([&] { return box.status() == "stopped"; }));
    CHECK(!alive(init));
    CHECK(eventually([&] { return read(log_of(box)).find("session.ended") != std::string::npos; }));
    Ran logs = runner({"logs", box.id});
    CHECK(ended(events_of(logs.out))["result"] == "cancelled");
    CHECK(runner({"logs", "--verify", box.id}).code == 0);
    CHECK(runner({"delete", box.id}).code == 0);
    CHECK(remains_of(box.id) == "");
  }

  TEST_CASE("a service manager hears of the start and of the end, and the program knows nothing of it") {
    SKIP_UNLESS(is_root(), "root");
    Folder folder;
    std::string path = folder / "notify";
    sockaddr_un address{AF_UNIX, {}};
    path.copy(address.sun_path, sizeof address.sun_path - 1);
    int manager = ::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    REQUIRE(::bind(manager, reinterpret_cast<sockaddr*>(&address), sizeof address) == 0);
    Session s = session({}, {"/probe", "env"}, {.env = {{"NOTIFY_SOCKET", path}}});
    CHECK(s.result() == "success");
    CHECK(s.out.find("NOTIFY_SOCKET") == std::string::npos);
    auto heard = [&] {
      char text[256];
      ssize_t got = ::recv(manager, text, sizeof text, MSG_DONTWAIT);
      return std::string(text, static_cast<std::size_t>(std::max<ssize_t>(0, got)));
    };
    CHECK(heard().find("READY=1\nMAINPID=") == 0);
    CHECK(heard() == "STOPPING=1");
    CHECK(heard() == "");
    ::close(manager);
    CHECK(session({}, {"/probe", "env"}, {.env = {{"NOTIFY_SOCKET", folder / "nobody"}}}).result() == "success");
  }

  TEST_CASE("-d answers 127 when the program is not there, and -d --rm removes itself") {
    SKIP_UNLESS(is_root(), "root");
    Box missing, brief;
    CHECK(runner(session_arguments(missing.id, {"-d", "--rm"}, {"no-such"}), {.timeout_ms = 10'000}).code == 127);
    CHECK(eventually([&] { return remains_of(missing.id).empty(); }, 3000));
    CHECK(runner(session_arguments(brief.id, {"-d", "--rm"}, {"/probe", "exit", "0"}), {.timeout_ms = 10'000}).code == 0);
    CHECK(eventually([&] { return remains_of(brief.id).empty(); }, 3000));
  }

  TEST_CASE("delete --force ends a session and removes all of it") {
    SKIP_UNLESS(is_root(), "root");
    Box box;
    REQUIRE(runner(session_arguments(box.id, {"-d"}, {"sh", "-c", "sleep 72.5 & sleep 72.5"}), {.timeout_ms = 10'000}).code == 0);
    CHECK(runner({"delete", "--force", box.id}).code == 0);
    CHECK(remains_of(box.id) == "");
    CHECK(processes_with("72.5").empty());
  }

  TEST_CASE("a session can be paused and resumed") {
    SKIP_UNLESS(is_root(), "root");
    Background s;
    CHECK(runner({"pause", s.box.id}).code == 0);
    CHECK(s.box.status() == "paused");
    CHECK(runner({"resume", s.box.id}).code == 0);
    CHECK(s.box.status() == "running");
  }

  TEST_CASE("signals to the supervisor go to the program, which may handle them") {
    SKIP_UNLESS(is_root(), "root");
    Background handled({"--rm"}, {"/probe", "await-signal", "21"});
    handled.live.signal(SIGTERM);
    CHECK(handled.live.wait() == 21);
    CHECK(handled.live.out.find("signal=15") != std::string::npos);
    CHECK(handled.end()["result"] == "exit-code");

    Background died({"--rm"});
    died.live.signal(SIGINT);
    CHECK(died.live.wait() == 130);
    CHECK(died.end()["result"] == "cancelled");
    CHECK(remains_of(died.box.id) == "");

    Background stubborn({"--rm"}, {"/probe", "ignore-term", "60"});
    stubborn.live.signal(SIGTERM);
    CHECK(stubborn.live.wait(300) == -1);
    CHECK(runner({"kill", stubborn.box.id, "KILL"}).code == 0);
    CHECK(stubborn.live.wait() == 137);
    CHECK(stubborn.end()["result"] == "cancelled");
  }

  TEST_CASE("kill by an outsider ends the session with the signal's status") {
    SKIP_UNLESS(is_root(), "root");
    Background s({"--rm"});
    CHECK(runner({"kill", s.box.id, "TERM"}).code == 0);
    CHECK(s.live.wait() == 143);
  }

  TEST_CASE("when the supervisor is killed, no process is left within a second, and the next start removes the rest") {
    SKIP_UNLESS(is_root(), "root");
    for (bool rm : {true, false}) {
      CAPTURE(rm);
      Background s(rm ? Args{"--rm"} : Args{}, {"sh", "-c", "sleep 73.5 & (sleep 73.5 & ) ; /probe ignore-term 60"});
      pid_t init = s.init();
      REQUIRE(processes_with("73.5").size() >= 2);
      s.live.signal(SIGKILL);
      CHECK(eventually([&] { return !alive(init) && processes_with("73.5").empty(); }, 1000));
      CHECK(s.live.wait() == 137);
      CHECK(session({}, {"/probe", "exit", "0"}).result() == "success");  // the next start
      if (rm) {
        CHECK(remains_of(s.box.id) == "");
      } else {  // its record stays, and says how it ended
        CHECK(s.box.status() == "stopped");
        CHECK(remains_of(s.box.id).find("cgroup") == std::string::npos);
        CHECK(runner({"logs", s.box.id}).code == 0);
        CHECK(runner({"delete", s.box.id}).code == 0);
        CHECK(remains_of(s.box.id) == "");
      }
    }
  }

  TEST_CASE("an id whose supervisor died can be used again at once") {
    SKIP_UNLESS(is_root(), "root");
    Background s({"--rm"});
    s.live.signal(SIGKILL);
    CHECK(s.live.wait() == 137);
    Ran again = runner(session_arguments(s.box.id, {"--rm"}, {"/probe", "exit", "4"}));
    CHECK(again.code == 4);
    CHECK(remains_of(s.box.id) == "");
  }

  TEST_CASE("orphans are reaped, and a background process cannot keep its session alive") {
    SKIP_UNLESS(is_root(), "root");
    Session s = session({}, {"sh", "-c", "/probe orphans 500; sleep 0.1; ls /proc | grep -c '^[0-9]'; sleep 74.5 & exit 0"});
    CHECK(s.result() == "success");
    CHECK(s.facts["orphans"] == "500");
    CHECK(s.end["ms"].get<int>() < 20'000);
    CHECK(processes_with("74.5").empty());
  }

  TEST_CASE("logs --verify finds a flipped byte, a missing line and a line that was added") {
    SKIP_UNLESS(is_root(), "root");
    Box box;
    REQUIRE(runner(session_arguments(box.id, {}, {"/probe", "status"})).code == 0);
    Ran good = runner({"logs", "--verify", box.id});
    CHECK(good.code == 0);
    CHECK(good.out.find("none missing") != std::string::npos);
    std::string log = log_of(box), text = read(log);
    CHECK(runner({"logs", box.id}).out == text);
    auto with = [&](const std::string& changed) {
      std::ofstream(log, std::ios::binary) << changed;
      Ran ran = runner({"logs", "--verify", box.id});
      CHECK(ran.out == "");
      return ran.code;
    };
    std::string flipped = text;
    flipped[text.find("\"exit\":0")+ 7] = '1';
    CHECK(with(flipped) == 1);
    std::size_t second = text.find('\n') + 1;
    CHECK(with(text.substr(0, second) + text.substr(text.find('\n', second) + 1)) == 1);
    CHECK(with(text.substr(0, text.rfind('\n', text.size() - 2) + 1)) == 1);  // cut off
    CHECK(with(text + text.substr(text.rfind('\n', text.size() - 2) + 1)) == 1);
    std::ofstream(log, std::ios::binary) << text;
    CHECK(runner({"logs", "--verify", box.id}).code == 0);
  }
}
