// Interpreters of a session that goes on from a snapshot, and much memory.
#include <doctest/doctest.h>

#include "tests/snapshot/support.h"

using namespace tests;

namespace {

Ran cell(const Box& box, const std::string& language, const std::string& text) {
  return runner({"code", "--context", language, "-l", language, "-c", text, box.id}, {.timeout_ms = 20'000});
}

}  // namespace

TEST_SUITE("snapshot code") {
  TEST_CASE("variables, imports and functions of a context are there, and the next cell is counted on") {
    SKIP_UNLESS(is_root() && have("python3"), "root and /usr/bin/python3");
    Twins twins;
    REQUIRE(cell(twins.one, "python", "import math\nx = [1, 2]\ndef f(n): return n + len(x)\n").code == 0);
    REQUIRE(cell(twins.one, "python", "x.append(3); 1").out == "1\n");
    twins.part();
    CHECK(cell(twins.other, "python", "x.append(4); (x, f(10), math.floor(2.5))").out == "([1, 2, 3, 4], 14, 2)\n");
    CHECK(cell(twins.one, "python", "(x, f(10))").out == "([1, 2, 3], 13)\n");
    CHECK(cell(twins.other, "python", "1/0").err.find("ZeroDivisionError") != std::string::npos);
    CHECK(cell(twins.other, "python", "x").out == "[1, 2, 3, 4]\n");
  }

  TEST_CASE("a context of Node is too") {
    SKIP_UNLESS(is_root() && have("node"), "root and /usr/bin/node");
    Twins twins;
    REQUIRE(cell(twins.one, "javascript", "let x = 40; const f = n => x + n").code == 0);
    twins.part();
    CHECK(cell(twins.other, "javascript", "x = 41; f(1)").out == "42\n");
    CHECK(cell(twins.one, "javascript", "f(1)").out == "41\n");
  }

  TEST_CASE("a cell that runs goes on in both") {
    SKIP_UNLESS(is_root() && have("python3"), "root and /usr/bin/python3");
    Twins twins;
    Live running(runner_argv({"code", "--context", "python", "-l", "python", "-c", "import time\nprint('begun', flush=True)\ntime.sleep(3)\nopen('/tmp/done','w').write('x')\n'ended'", twins.one.id}));
    REQUIRE(running.await("begun"));
    twins.part();
    CHECK(running.await("ended"));
    CHECK(running.wait() == 0);
    CHECK(eventually([&] { return sh(twins.other, "cat /tmp/done") == "x"; }));
    CHECK(cell(twins.other, "python", "6*7").out == "42\n");
  }

  TEST_CASE("50 MB of memory are as they were") {
    SKIP_UNLESS(is_root() && have("python3"), "root and /usr/bin/python3");
    Twins twins({"python3", "-u", "-c",
                 "import hashlib, os, signal\nb=os.urandom(50<<20); h=hashlib.sha256(b).hexdigest()\n"
                 "def same(*x): print(f'same {hashlib.sha256(b).hexdigest()==h}')\n"
                 "signal.signal(signal.SIGUSR1, same)\nprint('ready')\nwhile True: signal.pause()\n"});
    REQUIRE(runner({"wait", "--line", "ready", twins.one.id}).code == 0);
    twins.part({"--verify", "full"});
    for (const Box* box : {&twins.one, &twins.other}) {
      CHECK(runner({"kill", box->id, "USR1"}).code == 0);
      CHECK(eventually([&] { return runner({"logs", box->id}).out.find("same True") != std::string::npos; }));
    }
  }
}
