// What differs between sessions that go on from one state.
#include <doctest/doctest.h>
#include <stdlib.h>

#include "tests/snapshot/support.h"

using namespace tests;

namespace {

// The line that each says once /tmp/go is there.
std::string said(const Box& box) {
  CHECK(sh(box, "touch /tmp/go") == "");
  std::string text;
  CHECK(eventually([&] {
    std::string log = runner({"logs", box.id}).out;
    std::size_t at = log.rfind("\"text\":\"random ");
    if (at != std::string::npos) text = log.substr(at, log.find('}', at) - at);
    return at != std::string::npos;
  }));
  return text;
}

std::string shims() { return std::string(std::getenv("RUNNER_SOURCE_ROOT") ? std::getenv("RUNNER_SOURCE_ROOT") : ".") + "/policies/reseed:/reseed:ro"; }

}  // namespace

TEST_SUITE("snapshot epoch") {
  TEST_CASE("the epoch, the machine id and the host name are each session's own") {
    SKIP_UNLESS(is_root(), "root");
    Twins twins;
    twins.part();
    for (const char* file : {"/run/runner/epoch", "/etc/machine-id"}) {
      CAPTURE(file);
      std::string look = std::string("cat ") + file + "; stat -c %a " + file + "; echo x >" + file;
      std::string first = sh(twins.one, look), second = sh(twins.other, look);
      CHECK(first.substr(0, 32).find_first_not_of("0123456789abcdef") == std::string::npos);
      CHECK(first.substr(32, 4) == "\n444");
      CHECK(second.substr(32, 4) == "\n444");
      CHECK(first.substr(0, 32) != second.substr(0, 32));
    }
    CHECK(sh(twins.other, "echo $RUNNER_EPOCH_FILE; hostname") == "/run/runner/epoch\n" + twins.other.id);
  }

  TEST_CASE("hooks run inside after a restore, in order, and a failure is told") {
    SKIP_UNLESS(is_root(), "root");
    Twins twins({"sleep", "300"}, {"--user", "0"});
    CHECK(sh(twins.one, "mkdir -p /etc/runner/restore.d; cd /etc/runner/restore.d; printf '#!/bin/sh\\necho one >>/tmp/hooks\\n' >1; "
                        "printf '#!/bin/sh\\necho two >>/tmp/hooks; exit 3\\n' >2; chmod +x 1 2; echo not executable >3") == "");
    twins.part();
    CHECK(eventually([&] { return sh(twins.other, "cat /tmp/hooks") == "one\ntwo"; }));
    CHECK(eventually([&] { return runner({"logs", twins.other.id}).out.find("/etc/runner/restore.d/2 failed with status 3") != std::string::npos; }));
    CHECK(sh(twins.one, "ls /tmp") == "");
  }

  TEST_CASE("two forks of one Python, and of one Node, have other random numbers with the shim, and the same without") {
    SKIP_UNLESS(is_root() && have("python3") && have("node"), "root, /usr/bin/python3 and /usr/bin/node");
    const char* python = "import os, random, time\nrandom.random(); print('ready', flush=True)\nwhile not os.path.exists('/tmp/go'): time.sleep(0.02)\nprint(f'random {random.random()}', flush=True)\ntime.sleep(300)";
    const char* node = "Math.random(); console.log('ready'); const fs = require('fs'); const t = setInterval(() => { if (fs.existsSync('/tmp/go')) { console.log(`random ${Math.random()}`); clearInterval(t); setTimeout(() => {}, 3e5); } }, 20);";
    for (auto [command, flags, differ] : {std::tuple{Args{"python3", "-c", python}, Args{"-e", "PYTHONPATH=/reseed", "-v", shims()}, true},
                                          {Args{"node", "-e", node}, Args{"-e", "NODE_OPTIONS=--require=/reseed/reseed.js", "-v", shims()}, true},
                                          {Args{"python3", "-c", python}, Args{}, false}}) {
      CAPTURE(command[0]);
      Twins twins(command, flags);
      REQUIRE(runner({"wait", "--line", "ready", twins.one.id}).code == 0);
      twins.part();
      Box third;
      CHECK(runner({"restore", "-d", "--from", twins.shot.name, third.id}).code == 0);
      std::string one = said(twins.other), two = said(third);
      INFO(one, two);
      CHECK((one != two) == differ);
      runner({"rm", "-f", third.id});
    }
  }
}
