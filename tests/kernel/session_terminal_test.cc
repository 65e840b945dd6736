// Terminals of a session as a person has them: our own terminal is the outer one, raw while runner is attached.
#include <doctest/doctest.h>

#include "tests/kernel/person.h"

using namespace tests;

TEST_SUITE("session terminal") {
  TEST_CASE("a program that makes its terminal raw and dies leaves the caller's as it was") {
    SKIP_UNLESS(is_root(), "root");
    Away away;
    Person person({"exec", "-t", "-i", away.box.id, "--", "sh", "-c", "stty raw -echo; echo ready; read x; kill -9 $$"});
    REQUIRE(person.sees("ready"));
    CHECK(person.raw());
    person.type("\r\n");
    CHECK(person.ends() == 137);
    CHECK(person.as_before());
  }

  TEST_CASE("a terminal is left and found again by another, of another size, with what it showed; and job control works in it") {
    SKIP_UNLESS(is_root(), "root");
    Away away;
    REQUIRE(runner({"exec", "-d", "-t", "-i", "--service", "shell", away.box.id, "--", "sh"}).code == 0);
    {
      Person first({"attach", away.box.id, "shell"}, 30, 100);
      first.type("stty size\r");
      REQUIRE(first.sees("30 100"));
      first.resize(31, 90);
      first.type("sleep 0.2; stty size\r");
      CHECK(first.sees("31 90"));
      first.type("\x10\x11");
      CHECK(first.sees("it runs on"));
      CHECK(first.ends() == 0);
      CHECK(first.as_before());
    }
    Person second({"attach", away.box.id, "shell"}, 40, 120);
    REQUIRE(second.sees("31 90"));  // what the first has seen
    second.type("stty size\r");
    CHECK(second.sees("40 120"));
    second.type("sh -c 'echo in the foreground; sleep 100'\r");
    REQUIRE(second.sees("\nin the foreground"));  // before that, ^C would be the shell's own, and take what was typed with it
    second.type("\x03");
    second.type("echo status $?\r");
    CHECK(second.sees("status 130"));
    second.type("exit 3\r");
    CHECK(second.ends() == 3);
    CHECK(second.as_before());
  }

  TEST_CASE("a viewer that is killed leaves the terminal to the next one") {
    SKIP_UNLESS(is_root(), "root");
    Away away;
    REQUIRE(runner({"exec", "-d", "-t", "-i", "--service", "shell", away.box.id, "--", "sh"}).code == 0);
    {
      Person killed({"attach", away.box.id, "shell"});
      killed.type("echo one; kept=two\r");
      REQUIRE(killed.sees("\none"));
    }
    Person next({"attach", away.box.id, "shell"});
    next.type("echo $kept\r");
    CHECK(next.sees("\ntwo"));
  }

  TEST_CASE("--scrollback says how much of a terminal a later viewer sees again") {
    auto seen = [](const Args& flags) {
      Box box;
      Args arguments{"run", "-d", "-t", "--name", box.id};
      arguments.insert(arguments.end(), flags.begin(), flags.end());
      arguments.insert(arguments.end(), {"--", "sh", "-c", "seq 1 300000; echo END; sleep 60"});  // 2.2 MB
      Folder folder;
      CHECK(runner_apart(arguments, folder).code == 0);
      CHECK(runner({"wait", "--line", "^END", "--timeout", "30s", box.id}).code == 0);
      Live look(runner_argv({"attach", "--no-stdin", box.id}));
      CHECK(look.await("END"));
      look.signal(SIGTERM);
      look.wait();
      return look.out;
    };
    std::string little = seen({"--scrollback", "64K"}), much = seen({"--scrollback", "4M"});
    CHECK(much.find("1\r\n2\r\n3\r\n") == 0);
    CHECK(little.size() <= 64 << 10);
    CHECK(little.find("299999\r\n300000\r\nEND") != std::string::npos);
    for (const char* bad : {"1K", "1G", "lots"}) CHECK(runner({"run", "--rm", "-t", "--scrollback", bad, "--", "true"}).err.find("from 64K to 64M") != std::string::npos);
    CHECK(runner({"run", "--rm", "--scrollback", "1M", "--", "true"}).err.find("give -t") != std::string::npos);
  }

  TEST_CASE("the detach keys of exec -t leave the command running, and attach comes back to it") {
    Away away;
    Person person({"exec", "-t", "--detach-keys", "ctrl-a,d", "--scrollback", "128K", away.box.id, "--", "sh"});
    person.type("echo one$((1))\n");
    CHECK(person.sees("one1"));
    person.type("\x01");
    person.type("d");
    CHECK(person.ends() == 0);
    CHECK(person.sees("runner attach " + away.box.id + " c1"));
    CHECK(person.as_before());
    Person again({"attach", away.box.id, "c1"});
    CHECK(again.sees("one1"));
    again.type("exit 7\n");
    CHECK(again.ends() == 7);
    CHECK(runner({"exec", "--detach-keys", "ctrl-a", away.box.id, "--", "true"}).code != 0);
  }
}
