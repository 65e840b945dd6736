// snapshot check: what it finds, and that a snapshot which fails leaves the session running.
#include <doctest/doctest.h>

#include "tests/snapshot/support.h"

using namespace tests;
using nlohmann::json;

namespace {

json hazard(const Events& all, const std::string& what) {
  for (const json& each : all)
    if (each["what"].get<std::string>().find(what) != std::string::npos) return each;
  return {};
}

}  // namespace

TEST_SUITE("snapshot hazards") {
  TEST_CASE("what is kept is told, and is no failure") {
    SKIP_UNLESS(is_root() && have("python3"), "root and /usr/bin/python3");
    Twins twins({"python3", "-u", "-c",
                 "import socket,os,fcntl,tempfile,time\ns=socket.create_server(('127.0.0.1',5000))\n"
                 "c=socket.create_connection(('127.0.0.1',5000)); d,_=s.accept()\n"
                 "f=open('/tmp/l','w'); fcntl.flock(f,fcntl.LOCK_EX)\ng=tempfile.TemporaryFile(); g.write(b'x'*3000000); g.flush()\n"
                 "m=os.memfd_create('m'); a,b=socket.socketpair(); u=socket.socket(socket.AF_INET, socket.SOCK_DGRAM)\nprint('ready'); time.sleep(300)"});
    REQUIRE(runner({"wait", "--line", "ready", twins.one.id}).code == 0);
    Ran ran = runner({"snapshot", "check", twins.one.id});
    INFO(ran.out, ran.err);
    CHECK(ran.code == 0);
    Events all = events_of(ran.out);
    for (const char* what : {"a TCP connection within the session", "a file lock", "a deleted file of 2 MiB", "memfd"}) {
      CAPTURE(what);
      CHECK(hazard(all, what)["effect"] == "kept");
      CHECK(hazard(all, what)["pid"] == 2);
      CHECK(hazard(all, what)["fd"].is_number());
    }
    CHECK(twins.snapshot().code == 0);
  }

  TEST_CASE("a connection from outside would be closed") {
    SKIP_UNLESS(is_root() && have("python3"), "root and /usr/bin/python3");
    Twins twins({"python3", "-u", "-c", "import socket,time\ns=socket.create_server(('127.0.0.1',5000)); print('ready')\nc,_=s.accept(); print('taken'); time.sleep(300)"});
    REQUIRE(runner({"wait", "--line", "ready", twins.one.id}).code == 0);
    Folder folder;
    Live relay(runner_argv({"expose", "--unix", folder / "sock", twins.one.id, "5000"}));
    REQUIRE(relay.await("listening"));
    Live client({"python3", "-c", "import socket,sys,time\nc=socket.socket(socket.AF_UNIX); c.connect(sys.argv[1]); time.sleep(100)", folder / "sock"});
    REQUIRE(runner({"wait", "--line", "taken", twins.one.id}).code == 0);
    Ran ran = runner({"snapshot", "check", twins.one.id});
    CHECK(hazard(events_of(ran.out), "other end is outside")["effect"] == "closed");
  }

  TEST_CASE("a message queue is named, and the session that has it goes on when the snapshot fails") {
    SKIP_UNLESS(is_root() && have("python3"), "root and /usr/bin/python3");
    Folder folder;
    folder.write("lax.yaml", "version: 1\nextends: default\nseccomp: {profile: []}\nrlimits: {msgqueue: 819200}\n");
    Twins twins({"python3", "-u", "-c",
                 "import ctypes, os, time\nrt=ctypes.CDLL(None, use_errno=True)\nq=rt.mq_open(b'/queue', os.O_CREAT|os.O_RDWR, 0o600, None)\n"
                 "print('ready' if q >= 0 else f'none {ctypes.get_errno()}')\nwhile True: time.sleep(0.1)"},
                {"--policy", folder / "lax.yaml"});
    REQUIRE(runner({"wait", "--line", "ready|none", twins.one.id}).code == 0);
    SKIP_UNLESS(runner({"logs", twins.one.id}).out.find("\"text\":\"ready") != std::string::npos, "a policy that allows message queues");
    Ran ran = runner({"snapshot", "check", twins.one.id});
    CHECK(ran.code == 1);
    CHECK(hazard(events_of(ran.out), "POSIX message queue")["effect"] == "fails");
    Ran taken = twins.snapshot();
    CHECK(taken.code == 125);
    CHECK(taken.err.find("a POSIX message queue") != std::string::npos);
    CHECK(!twins.shot.there());
    CHECK(sh(twins.one, "echo fine") == "fine");
  }

  TEST_CASE("a nested user namespace is named") {
    SKIP_UNLESS(is_root(), "root");
    Folder folder;
    folder.write("lax.yaml", "version: 1\nextends: default\nseccomp: {profile: []}\n");
    Twins twins({"sleep", "300"}, {"--policy", folder / "lax.yaml"});
    twins.serve("nested", {"sh", "-c", "unshare -U sh -c 'echo inside; sleep 300' || echo none; sleep 300"});
    REQUIRE(eventually([&] { return written_by(twins.one, "nested") != ""; }));
    SKIP_UNLESS(written_by(twins.one, "nested") == "inside\n", "user namespaces inside of a session");
    Ran ran = runner({"snapshot", "check", twins.one.id});
    CHECK(ran.code == 1);
    CHECK(hazard(events_of(ran.out), "nested user namespace")["effect"] == "fails");
    Ran taken = twins.snapshot();
    INFO(taken.err);
    CHECK(taken.code == 125);
    CHECK(taken.err.find("a nested user namespace") != std::string::npos);
    CHECK(sh(twins.one, "echo fine") == "fine");
  }

  TEST_CASE("what CRIU refuses is named, with its holder and the remedy, and the session goes on") {
    SKIP_UNLESS(is_root(), "root");
    Twins twins({"sh", "-c", "exec 9<>/dev/tty; echo open; while read x; do echo got $x; done"}, {"-t", "-i"});
    REQUIRE(runner({"wait", "--line", "open", twins.one.id}).code == 0);
    Ran ran = runner({"snapshot", "check", twins.one.id});
    CHECK(ran.code == 1);
    CHECK(hazard(events_of(ran.out), "/dev/tty")["effect"] == "fails");
    CHECK(runner({"snapshot", "check", "--format", "table", twins.one.id}).out.find("REMEDY") != std::string::npos);
    Ran taken = twins.snapshot();
    CHECK(taken.code == 125);
    CHECK(taken.err.find("has /dev/tty, by its own name (descriptor 9)") != std::string::npos);
    CHECK(!twins.shot.there());
    CHECK(sh(twins.one, "echo fine") == "fine");
    Live attached(runner_argv({"attach", twins.one.id}));
    attached.send("word\r");
    CHECK(attached.await("got word"));
  }
}
