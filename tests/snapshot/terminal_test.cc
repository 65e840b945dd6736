// Terminals of a session that goes on from a snapshot.
#include <doctest/doctest.h>

#include "tests/kernel/person.h"
#include "tests/snapshot/support.h"

using namespace tests;

TEST_SUITE("snapshot terminal") {
  TEST_CASE("a shell in a terminal shows what it showed, takes what is typed, and has the size of who looks") {
    SKIP_UNLESS(is_root() && have("bash"), "root and /usr/bin/bash");
    Twins twins;
    twins.serve("shell", {"bash", "--norc", "-i"}, {"-t", "-i"});
    {
      Person first({"attach", twins.one.id, "shell"}, 30, 100);
      first.type("cd /tmp; kept=a-value; sleep 300 & echo mark$((1+1))\r");
      REQUIRE(first.sees("mark2"));
      first.type("half a line");
      REQUIRE(first.sees("half a line"));
      first.type("\x10\x11");
      CHECK(first.ends() == 0);
    }
    twins.part();
    for (const Box* box : {&twins.other, &twins.one}) {
      Person next({"attach", box->id, "shell"}, 41, 120);
      REQUIRE(next.sees("half a line"));
      CHECK(next.screen.find("mark2") != std::string::npos);
      next.type("\x15" "echo x$kept $PWD; jobs; stty size\r");
      CHECK(next.sees("xa-value /tmp"));
      CHECK(next.sees("Running"));
      CHECK(next.sees("41 120"));
      next.resize(33, 77);
      next.type("stty size\r");
      CHECK(next.sees("33 77"));
      next.type("sh -c 'echo in the fore''ground; sleep 100'\r");
      REQUIRE(next.sees("in the foreground"));
      next.type("\x03");
      next.type("echo status $?\r");
      CHECK(next.sees("status 130"));
      next.type("kill %1; exit 5\r");
      next.type("exit 5\r");
      CHECK(next.ends() == 5);
    }
  }

  TEST_CASE("the program itself may have the terminal") {
    SKIP_UNLESS(is_root(), "root");
    Twins twins({"bash", "--norc"}, {"-t", "-i"});  // dash would open /dev/tty: see hazards_test.cc
    {
      Person first({"attach", twins.one.id});
      first.type("kept=two; echo on$((0+1))\r");
      REQUIRE(first.sees("on1"));
      first.type("\x10\x11");
      CHECK(first.ends() == 0);
    }
    twins.part();
    Person next({"attach", twins.other.id});
    REQUIRE(next.sees("on1"));
    next.type("echo x$kept; exit 6\r");
    CHECK(next.sees("xtwo"));
    CHECK(next.ends() == 6);
    CHECK(eventually([&] { return inspected(twins.other)["exit_code"] == 6; }));
  }

  TEST_CASE("an editor has what nobody has saved yet") {
    SKIP_UNLESS(is_root() && have("vim"), "root and /usr/bin/vim");
    Twins twins;
    twins.serve("vim", {"env", "TERM=xterm", "vim", "-u", "NONE", "-N", "-n", "/workspace/text"}, {"-t", "-i"});
    {
      Person first({"attach", twins.one.id, "vim"});
      REQUIRE(first.sees("text"));
      first.type("ihello from before");
      REQUIRE(first.sees("hello from before"));
      first.type("\x10\x11");
      first.ends();
    }
    twins.part();
    CHECK(twins.both("ls /workspace") == "");
    Person next({"attach", twins.other.id, "vim"});
    next.type(", and after\x1b:wq\r");
    CHECK(next.ends() == 0);
    CHECK(sh(twins.other, "cat /workspace/text") == "hello from before, and after");
    CHECK(sh(twins.one, "ls /workspace") == "");
    Person first({"attach", twins.one.id, "vim"});
    first.type("!\x1b:wq\r");
    CHECK(first.ends() == 0);
    CHECK(sh(twins.one, "cat /workspace/text") == "hello from before!");
  }
}
