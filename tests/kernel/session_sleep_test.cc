// run --sleep-after: when a session falls asleep, what keeps it awake, and what wakes it.
#include <doctest/doctest.h>
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include <chrono>
#include <thread>

#include "tests/kernel/live.h"

using namespace tests;
using nlohmann::json;

namespace {

json inspected(const Box& box) {
  Ran ran = runner({"inspect", box.id});
  return ran.code == 0 ? json::parse(ran.out).at(0) : json();
}

bool asleep(const Box& box) {
  json one = inspected(box);
  return one["status"] == "paused" && one["sleep"]["since"].is_string();
}
bool falls_asleep(const Box& box) {
  return eventually([&] { return asleep(box); });
}

void pass(int milliseconds) { std::this_thread::sleep_for(std::chrono::milliseconds(milliseconds)); }

// Counts in a file that the host sees, at next to no CPU time.
constexpr const char* kCounter = "n=0; while :; do n=$((n+1)); echo $n > /workspace/n; sleep 0.4; done";

struct Sleeper {
  Folder work;
  Box box;
  explicit Sleeper(const Args& command = {"sh", "-c", kCounter}, const Args& more = {}) {
    ::chmod(work.path().c_str(), 0777);
    Args flags{"-d", "--sleep-after", "1s", "--sleep-to", "memory", "-v", work.path() + ":/workspace"};
    flags.insert(flags.end(), more.begin(), more.end());
    Ran ran = runner(session_arguments(box.id, flags, command), {.timeout_ms = 20'000});
    if (ran.code != 0) throw std::runtime_error("the session did not start: " + ran.err + ran.out);
  }
  int count(const std::string& file = "n") const { return std::atoi(read(work / file).c_str()); }
  bool counts(const std::string& file = "n") const {
    int before = count(file);
    return eventually([&] { return count(file) > before; }, 1500);
  }
  Ran exec(const Args& words) const {
    Args all{"exec", box.id, "--"};
    all.insert(all.end(), words.begin(), words.end());
    return runner(all, {.timeout_ms = 15'000});
  }
};

}  // namespace

TEST_SUITE("session sleep") {
  TEST_CASE("a quiet session is frozen, exec wakes it, and it falls asleep again") {
    SKIP_UNLESS(is_root(), "root");
    Sleeper s;
    CHECK(inspected(s.box)["sleep"] == json{{"after_ms", 1000}, {"since", nullptr}});
    REQUIRE(falls_asleep(s.box));
    CHECK(runner({"ls"}).out.find("\"id\":\"" + s.box.id + "\",\"status\":\"paused\"") != std::string::npos);
    int before = s.count();
    json usage = inspected(s.box)["usage"];
    CHECK(before > 0);
    CHECK(!s.counts());
    CHECK(inspected(s.box)["usage"]["cpu_us"] == usage["cpu_us"]);

    Ran ran = s.exec({"echo", "awake"});
    CHECK(ran.code == 0);
    CHECK(ran.out == "awake\n");
    CHECK(ran.err == "");
    CHECK(inspected(s.box)["status"] == "running");
    CHECK(inspected(s.box)["sleep"]["since"].is_null());
    CHECK(s.counts());
    CHECK(s.count() < before + 10);  // it went on where it was
    CHECK(falls_asleep(s.box));
    CHECK(runner({"logs", "--verify", s.box.id}).code == 0);
  }

  TEST_CASE("a session that computes, speaks or is waited for stays awake") {
    SKIP_UNLESS(is_root(), "root");
    Sleeper computes({"sh", "-c", "while :; do i=0; while [ $i -lt 1000 ]; do i=$((i+1)); done; sleep 0.02; done"});
    Sleeper speaks({"sh", "-c", "while :; do echo tick; sleep 0.4; done"});
    Sleeper waited;
    auto start = std::chrono::steady_clock::now();
    CHECK(waited.exec({"sh", "-c", "sleep 4; echo slept"}).out == "slept\n");
    CHECK(std::chrono::steady_clock::now() - start < std::chrono::seconds(8));
    CHECK(inspected(computes.box)["status"] == "running");
    CHECK(inspected(speaks.box)["status"] == "running");
    CHECK(falls_asleep(waited.box));
    CHECK(inspected(computes.box)["status"] == "running");
  }

  TEST_CASE("a service sleeps with its session, and one that is exempt keeps it awake as long as it runs") {
    SKIP_UNLESS(is_root(), "root");
    Sleeper s;
    std::string loop = "n=0; while :; do n=$((n+1)); echo $n > /workspace/FILE; sleep 0.4; done";
    auto serve = [&](const std::string& file, const Args& flags) {
      std::string code = loop;
      Args words{"exec", "-d", "--service", file};
      words.insert(words.end(), flags.begin(), flags.end());
      words.insert(words.end(), {s.box.id, "--", "sh", "-c", code.replace(code.find("FILE"), 4, file)});
      return runner(words).code;
    };
    REQUIRE(serve("plain", {}) == 0);
    REQUIRE(falls_asleep(s.box));
    CHECK(!s.counts("plain"));
    REQUIRE(serve("web", {"--keep-awake"}) == 0);
    pass(3500);
    CHECK(inspected(s.box)["status"] == "running");
    CHECK(s.counts("web"));
    CHECK(s.exec({"sh", "-c", "for p in /proc/[0-9]*; do grep -qa workspace/w[e]b $p/cmdline && kill -9 ${p#/proc/}; done; true"}).code == 0);
    CHECK(falls_asleep(s.box));
  }

  TEST_CASE("whatever is asked of a sleeping session wakes it") {
    SKIP_UNLESS(is_root(), "root");
    Sleeper s({"sh", "-c", "trap 'echo usr1' USR1; while :; do sleep 0.4; read line && echo got $line; done"}, {"-i"});
    s.work.write("file", "content");
    auto wakes = [&](const Args& words, const How& how = {}) {
      CAPTURE(words[0]);
      REQUIRE(falls_asleep(s.box));
      Ran ran = runner(words, how);
      CHECK(ran.code == 0);
      CHECK(ran.err == "");
      CHECK(inspected(s.box)["status"] == "running");
    };
    wakes({"cp", s.work / "file", s.box.id + ":/tmp/copy"});
    wakes({"kill", s.box.id, "USR1"});
    json process = {{"args", {"cat", "/tmp/copy"}}, {"cwd", "/"}, {"user", {{"uid", 0}, {"gid", 0}}}, {"env", {"PATH=/usr/bin:/bin"}}};
    s.work.write("process.json", process.dump());
    wakes({"exec", "--process", s.work / "process.json", s.box.id});
    wakes({"resume", s.box.id});

    REQUIRE(falls_asleep(s.box));
    Live attached(runner_argv({"attach", s.box.id}));
    attached.send("word\n");
    CHECK(attached.await("got word"));
    CHECK(attached.out.find("usr1") != std::string::npos);  // that signal was heeded
    REQUIRE(falls_asleep(s.box));  // somebody looks on and says nothing
    attached.send("more\n");
    CHECK(attached.await("got more"));
  }

  TEST_CASE("a connection through expose wakes a sleeping server, which stays awake while it is open") {
    SKIP_UNLESS(is_root() && ::access("/usr/bin/python3", X_OK) == 0, "root, and python3");
    Sleeper s({"python3", "-u", "-c",
               "import socket\ns=socket.create_server(('127.0.0.1',5000))\nprint('up')\n"
               "while True:\n c,_=s.accept()\n while (b:=c.recv(100)): c.sendall(b.upper())\n c.close()\n"});
    REQUIRE(runner({"wait", "--port", "5000", s.box.id}).code == 0);
    Folder folder;
    Live relay(runner_argv({"expose", "--unix", folder / "sock", s.box.id, "5000"}));
    REQUIRE(relay.await("listening"));
    REQUIRE(falls_asleep(s.box));
    Live client({"python3", "-u", "-c",
                 "import socket,sys,time\nc=socket.socket(socket.AF_UNIX)\nc.connect(sys.argv[1])\nc.sendall(b'one')\nprint(c.recv(9))\n"
                 "time.sleep(3)\nc.sendall(b'two')\nprint(c.recv(9))\n", folder / "sock"});
    REQUIRE(client.await("ONE"));
    pass(2500);
    CHECK(inspected(s.box)["status"] == "running");
    CHECK(client.await("TWO"));
    CHECK(client.wait() == 0);
    CHECK(falls_asleep(s.box));
  }

  TEST_CASE("a sleeping session is stopped, removed and ended by its deadlines like one that is awake") {
    SKIP_UNLESS(is_root(), "root");
    Sleeper call;
    REQUIRE(runner({"exec", "-d", "--timeout", "6s", "--service", "brief", call.box.id, "--", "sleep", "50"}).code == 0);
    REQUIRE(falls_asleep(call.box));
    CHECK(eventually([&] { return runner({"logs", call.box.id}).out.find("\"call\":\"brief\",\"result\":\"timeout\"") != std::string::npos; }));

    Sleeper timed({"sh", "-c", kCounter}, {"--timeout", "6s"});
    REQUIRE(falls_asleep(timed.box));
    CHECK(eventually([&] { return inspected(timed.box)["result"] == "timeout"; }));

    Sleeper stops({"/probe", "await-signal", "31"}), removed;
    REQUIRE(falls_asleep(stops.box));
    CHECK(runner({"stop", stops.box.id}).code == 0);
    CHECK(inspected(stops.box)["exit_code"] == 31);
    CHECK(inspected(stops.box)["sleep"]["since"].is_null());

    REQUIRE(falls_asleep(removed.box));
    CHECK(runner({"rm", "-f", removed.box.id}).code == 0);
    CHECK(remains_of(removed.box.id) == "");
  }

  TEST_CASE("a sleeping session dies with its supervisor, without a trace") {
    SKIP_UNLESS(is_root(), "root");
    Box box;
    Live live(runner_argv(session_arguments(box.id, {"--rm", "--sleep-after", "1s"}, {"sh", "-c", "exec sleep 86.25"})));
    REQUIRE(falls_asleep(box));
    REQUIRE(processes_with("86.25").size() >= 2);  // the supervisor's command line has it too
    live.signal(SIGKILL);
    live.wait();
    CHECK(eventually([] { return processes_with("86.25").empty(); }, 2000));
    runner({"ls"});
    CHECK(remains_of(box.id) == "");
  }

  TEST_CASE("pause is no sleep: no request ends it, whether the session slept before or would sleep") {
    SKIP_UNLESS(is_root(), "root");
    Sleeper s;
    for (bool slept : {false, true}) {
      CAPTURE(slept);
      if (slept) REQUIRE(falls_asleep(s.box));
      REQUIRE(runner({"pause", s.box.id}).code == 0);
      pass(1500);
      CHECK(inspected(s.box)["status"] == "paused");
      CHECK(inspected(s.box)["sleep"]["since"].is_null());
      CHECK(s.exec({"true"}).err.find("cannot exec in a paused container") != std::string::npos);
      CHECK(inspected(s.box)["status"] == "paused");
      REQUIRE(runner({"resume", s.box.id}).code == 0);
      CHECK(s.counts());
    }
    CHECK(falls_asleep(s.box));
  }

  TEST_CASE("a time that is none is refused") {
    SKIP_UNLESS(is_root(), "root");
    Box box;
    for (const char* time : {"x", "0s", "500ms", "-1"}) {
      Ran ran = runner(session_arguments(box.id, {"--sleep-after", time}, {"true"}));
      CHECK(ran.code == 125);
      CHECK(ran.err.find("--sleep-after: must be a time of at least 1s") != std::string::npos);
    }
  }
}
