// runner wait: at once when it is so, as soon as it becomes so, and never when it cannot become so any more.
#include <doctest/doctest.h>
#include <signal.h>

#include <chrono>

#include "tests/kernel/live.h"

using namespace tests;

namespace {

struct Started {
  Folder work;
  Box box;
  explicit Started(const std::string& script, const Args& flags = {}) {
    work.write(
        "serve.py",
        "import http.server, sys, time\n"
        "class H(http.server.BaseHTTPRequestHandler):\n"
        "  start = time.time()\n"
        "  def do_GET(self):\n"
        "    late = self.path == '/late' and time.time() - H.start < 0.5\n"
        "    self.send_response(500 if self.path == '/broken' or late else 404 if self.path == '/none' else 200)\n"
        "    self.end_headers()\n"
        "  def log_message(self, *a): pass\n"
        "time.sleep(float(sys.argv[1]))\n"
        "http.server.HTTPServer(('127.0.0.1', 8123), H).serve_forever()\n");
    Args all{"-d", "-v", work.path() + ":/workspace"};
    all.insert(all.end(), flags.begin(), flags.end());
    Ran ran = runner(session_arguments(box.id, all, {"sh", "-c", script}), {.timeout_ms = 20'000});
    if (ran.code != 0) throw std::runtime_error("the session did not start: " + ran.err);
  }
  Ran wait(const Args& flags) const {
    Args words{"wait"};
    words.insert(words.end(), flags.begin(), flags.end());
    words.push_back(box.id);
    return runner(words, {.timeout_ms = 15'000});
  }
};

}  // namespace

TEST_SUITE("wait") {
  TEST_CASE("for the end: the session's exit status, before and after it has ended") {
    SKIP_UNLESS(is_root(), "root");
    Started s("sleep 0.5; exit 7");
    Ran ran = s.wait({});
    CHECK(ran.code == 7);
    CHECK(ran.out == "");
    CHECK(ran.err == "");
    CHECK(s.wait({"--exit"}).code == 7);
    Started killed("exec sleep 60");
    Live waits(runner_argv({"wait", "--exit", killed.box.id}));
    CHECK(waits.wait(300) == -1);
    CHECK(killed.wait({"--timeout", "200ms"}).code == 124);
    REQUIRE(runner({"kill", killed.box.id, "KILL"}).code == 0);
    CHECK(waits.wait() == 137);
    Started gone("sleep 0.5; exit 7", {"--rm"});
    Ran removed = gone.wait({"--exit", "--format", "json"});
    CHECK(removed.code == 7);
    auto told = nlohmann::json::parse(removed.out);
    CHECK(told["id"] == gone.box.id);
    CHECK(told["result"] == "exit-code");
    CHECK(told["exit_code"] == 7);
    // However fast it goes, and whoever has its name next.
    for (int i = 0; i < 10; ++i) {
      Started fast("read x; exit 9", {"--rm", "-i"});
      Live waiter(runner_argv({"wait", fast.box.id}));
      CHECK(waiter.wait(100) == -1);
      runner({"kill", fast.box.id, "KILL"});
      runner({"run", "-d", "--name", fast.box.id, "--", "sleep", "60"});
      CHECK(waiter.wait() == 137);
    }
  }

  TEST_CASE("for the end of a session whose supervisor is killed, and of a container") {
    SKIP_UNLESS(is_root(), "root");
    Box box;
    Live supervisor(runner_argv(session_arguments(box.id, {}, {"/probe", "sleep", "60"})));
    REQUIRE(supervisor.await("ready="));
    Live waits(runner_argv({"wait", box.id}));
    CHECK(waits.wait(300) == -1);
    supervisor.signal(SIGKILL);
    CHECK(waits.wait(5000) == 1);
    CHECK(waits.err.find("supervisor") != std::string::npos);

    Bundle bundle({"/bin/busybox", "sleep", "60"});
    Box container;
    REQUIRE(create(bundle, container).code == 0);
    REQUIRE(start(container).code == 0);
    CHECK(runner({"wait", container.id, "--timeout", "100ms"}).code == 124);
    Live ends(runner_argv({"wait", container.id}));
    REQUIRE(runner({"kill", container.id, "KILL"}).code == 0);
    CHECK(ends.wait(5000) == 0);
  }

  TEST_CASE("for a port and for an answer of HTTP") {
    SKIP_UNLESS(is_root(), "root");
    Started s("exec python3 /workspace/serve.py 0.7");
    CHECK(s.wait({"--port", "8123", "--timeout", "100ms"}).code == 124);
    CHECK(s.wait({"--port", "8123", "--timeout", "10s"}).code == 0);
    CHECK(s.wait({"--port", "8123", "--timeout", "0"}).code == 0);
    CHECK(s.wait({"--port", "8124", "--timeout", "200ms"}).code == 124);
    CHECK(s.wait({"--http", "/late", "--port", "8123", "--timeout", "10s"}).code == 0);
    CHECK(s.wait({"--http", "/none", "--port", "8123", "--timeout", "5s"}).code == 0);
    CHECK(s.wait({"--http", "/broken", "--port", "8123", "--timeout", "500ms"}).code == 124);
    Live waits(runner_argv({"wait", "--port", "8124", s.box.id}));
    CHECK(waits.wait(200) == -1);
    REQUIRE(runner({"kill", s.box.id, "KILL"}).code == 0);
    CHECK(waits.wait(3000) == 1);
    CHECK(waits.err.find("ended") != std::string::npos);
  }

  TEST_CASE("for a line of output: already there, to come, in pieces, without a newline, and never") {
    SKIP_UNLESS(is_root(), "root");
    Started s(
        "echo 'before: ready on 80'; sleep 0.5; printf 'lis'; sleep 0.1; printf 'tening'; echo problem >&2; printf "
        "'\\377bin\\000ary\\n'; sleep 0.3; printf 'prompt> '; sleep 60");
    CHECK(s.wait({"--log", "ready on [0-9]+$"}).code == 0);
    CHECK(s.wait({"--log", "^listening", "--timeout", "10s"}).code == 0);
    CHECK(s.wait({"--log", "^problem$", "--timeout", "10s"}).code == 0);
    CHECK(s.wait({"--log", "bin.ary", "--timeout", "10s"}).code == 0);
    CHECK(s.wait({"--log", "> $", "--timeout", "10s"}).code == 0);
    CHECK(s.wait({"--log", "session.started|sequence", "--timeout", "300ms"}).code == 124);  // output, not events
    Live waits(runner_argv({"wait", "--log", "never", s.box.id}));
    CHECK(waits.wait(300) == -1);
    REQUIRE(runner({"kill", s.box.id, "KILL"}).code == 0);
    CHECK(waits.wait(3000) == 1);
    CHECK(waits.err.find("without such a line") != std::string::npos);
  }

  TEST_CASE("bad input is an error") {
    SKIP_UNLESS(is_root(), "root");
    Started s("exec sleep 60");
    for (const Args& flags : {Args{"--port", "0"},
                              {"--port", "70000"},
                              {"--port", "web"},
                              {"--port", ""},
                              {"--http", "/x"},
                              {"--http", "x", "--port", "80"},
                              {"--http", "/a b", "--port", "80"},
                              {"--http", "/x\r\nHost: y", "--port", "80"},
                              {"--log", "("},
                              {"--log", ""},
                              {"--exit", "--port", "80"},
                              {"--exit", "--log", "x"},
                              {"--port", "80", "--log", "x"},
                              {"--timeout", "soon"},
                              {"--timeout", "-1"}}) {
      Ran ran = s.wait(flags);
      CAPTURE(flags[0] + " " + flags.back());
      CHECK(ran.code == 1);
      CHECK(ran.err != "");
    }
    CHECK(runner({"wait", "no-such"}).err.find("does not exist") != std::string::npos);
    CHECK(runner({"wait"}).code == 1);
    REQUIRE(runner({"kill", s.box.id, "KILL"}).code == 0);
    REQUIRE(eventually([&] { return s.box.status() == "stopped"; }));
    CHECK(s.wait({"--port", "80"}).err.find("not running") != std::string::npos);
    CHECK(s.wait({"--log", "x"}).err.find("not running") != std::string::npos);
  }
}
