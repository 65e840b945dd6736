// The life of an OCI container: create, start, state, kill, delete, and the verbs that look at it.
#include <doctest/doctest.h>
#include <signal.h>
#include <unistd.h>

#include <filesystem>

#include "tests/kernel/live.h"

using namespace tests;
using nlohmann::json;

TEST_SUITE("container life") {
  TEST_CASE("a container from `runner spec` is created, started, killed and deleted, and nothing is left") {
    SKIP_UNLESS(is_root(), "root");
    Bundle bundle({"sleep", "60"});
    Box box;
    Ran created = create(bundle, box, {"--pid-file", bundle / "pid"});
    CHECK(created.code == 0);
    CHECK(created.err == "");
    json state = box.state();
    CHECK(state["ociVersion"].get<std::string>().substr(0, 2) == "1.");
    CHECK(state["id"] == box.id);
    CHECK(state["status"] == "created");
    CHECK(state["bundle"] == bundle.path());
    CHECK(state["rootfs"] == bundle.rootfs());
    CHECK(state["owner"] == "root");
    CHECK(state["created"].get<std::string>().find('T') == 10);
    CHECK(std::to_string(state["pid"].get<int>()) == read(bundle / "pid"));
    CHECK(read("/proc/" + read(bundle / "pid") + "/cmdline").find("sleep") == std::string::npos);  // the program waits

    CHECK(start(box).code == 0);
    CHECK(box.status() == "running");
    CHECK(read("/proc/" + read(bundle / "pid") + "/cmdline") == std::string("sleep\00060\0", 9));

    CHECK(runner({"kill", box.id, "KILL"}).code == 0);
    CHECK(eventually([&] { return box.status() == "stopped"; }));
    CHECK(box.state()["pid"] == 0);
    Ran deleted = runner({"delete", box.id});
    CHECK(deleted.code == 0);
    CHECK(deleted.err == "");
    CHECK(remains_of(box.id) == "");
  }

  TEST_CASE("a bundle of Debian's runc 1.1 runs as it is, but for its terminal") {
    SKIP_UNLESS(is_root(), "root");
    SKIP_UNLESS(run({"sh", "-c", "command -v runc"}).code == 0, "runc");
    Rootfs folder;
    REQUIRE(run({"runc", "spec", "--bundle", folder.path()}).code == 0);
    json config = json::parse(read(folder / "config.json"));
    config["process"]["terminal"] = false;
    config["process"]["args"] = {"probe", "hostname,status"};
    folder.write("config.json", config.dump());
    Ran ran = runner({"run", "-b", folder.path(), fresh_id()});
    CHECK(ran.code == 0);
    Facts facts = facts_of(ran.out);
    CHECK(facts["hostname"] == "runc");
    CHECK(facts["CapEff"] == "0000000020000420");  // AUDIT_WRITE, KILL, NET_BIND_SERVICE
    CHECK(facts["CapAmb"] == "0000000000000000");  // asked for, but not inheritable: as runc has it
    CHECK(facts["NoNewPrivs"] == "1");
  }

  TEST_CASE("run gives the program's own status, whatever it is") {
    SKIP_UNLESS(is_root(), "root");
    Bundle bundle({"probe", "exit", "37"});
    CHECK(bundle.run().code == 37);
    bundle.config["process"]["args"] = {"sh", "-c", "probe kill-self 15; exit $?"};
    bundle.save();
    CHECK(bundle.run().code == 143);
  }

  TEST_CASE("run answers 137 when the container is killed from outside, and removes it") {
    SKIP_UNLESS(is_root(), "root");
    Bundle bundle({"probe", "sleep", "60"});
    Box box;
    Live live(runner_argv({"run", "-b", bundle.path(), box.id}));
    REQUIRE(live.await("ready="));
    CHECK(runner({"kill", box.id, "9"}).code == 0);
    CHECK(live.wait() == 137);
    CHECK(remains_of(box.id) == "");
  }

  TEST_CASE("run forwards the signals that it gets") {
    SKIP_UNLESS(is_root(), "root");
    Bundle bundle({"probe", "await-signal", "5"});
    Box box;
    Live live(runner_argv({"run", "-b", bundle.path(), box.id}));
    REQUIRE(live.await("ready="));
    live.signal(SIGUSR2);
    CHECK(live.wait() == 5);
    CHECK(facts_of(live.out)["signal"] == std::to_string(SIGUSR2));
  }

  TEST_CASE("run --detach returns while the container runs; its pid file names it") {
    SKIP_UNLESS(is_root(), "root");
    Bundle bundle({"sh", "-c", "echo up; sleep 60"});
    Box box;
    Ran ran = runner_apart({"run", "--detach", "--pid-file", bundle / "pid", "-b", bundle.path(), box.id}, bundle);
    CHECK(ran.code == 0);
    CHECK(box.status() == "running");
    CHECK(box.state()["pid"] == std::stoi(read(bundle / "pid")));
    CHECK(eventually([&] { return written(bundle) == "up\n"; }));
    CHECK(runner({"delete", "--force", box.id}).code == 0);
    CHECK(!alive(std::stoi(read(bundle / "pid"))));
    CHECK(remains_of(box.id) == "");
  }

  TEST_CASE("kill takes names with and without SIG, numbers, and TERM when nothing is said") {
    SKIP_UNLESS(is_root(), "root");
    for (const Args& words : {Args{"SIGUSR1"}, Args{"usr1"}, Args{"10"}, Args{}}) {
      Bundle bundle({"probe", "await-signal"});
      Box box;
      REQUIRE(runner_apart({"run", "-d", "-b", bundle.path(), box.id}, bundle).code == 0);
      REQUIRE(eventually([&] { return written(bundle).find("ready=") != std::string::npos; }));
      Args arguments{"kill", box.id};
      arguments.insert(arguments.end(), words.begin(), words.end());
      CHECK(runner(arguments).code == 0);
      std::string expected = words.empty() ? "15" : "10";
      CHECK(eventually([&] { return facts_of(written(bundle))["signal"] == expected; }));
    }
  }

  TEST_CASE("kill --all reaches every process of the container") {
    SKIP_UNLESS(is_root(), "root");
    Bundle bundle({"sh", "-c", "sleep 61 & sleep 62 & echo up; sleep 63; true"});
    Box box;
    REQUIRE(runner_apart({"run", "-d", "-b", bundle.path(), box.id}, bundle).code == 0);
    REQUIRE(eventually([&] { return written(bundle) == "up\n"; }));
    auto pids = json::parse(runner({"ps", "-f", "json", box.id}).out);
    CHECK(pids.size() == 4);
    CHECK(runner({"kill", "--all", box.id, "KILL"}).code == 0);
    for (pid_t pid : pids) CHECK(eventually([&] { return !alive(pid); }));
  }

  TEST_CASE("list and ps show what runs; pause freezes it and resume thaws it") {
    SKIP_UNLESS(is_root(), "root");
    Bundle bundle({"sleep", "60"});
    Box box;
    REQUIRE(runner_apart({"run", "-d", "-b", bundle.path(), box.id}, bundle).code == 0);
    CHECK(runner({"list", "-q"}).out.find(box.id + "\n") != std::string::npos);
    bool found = false;
    for (const json& one : json::parse(runner({"list", "-f", "json"}).out))
      if (one["id"] == box.id) found = one["status"] == "running" && one["bundle"] == bundle.path() && one["pid"].get<int>() > 0;
    CHECK(found);
    CHECK(runner({"list"}).out.find(box.id) != std::string::npos);
    CHECK(runner({"ps", box.id}).out.find("sleep 60") != std::string::npos);

    Ran paused = runner({"pause", box.id});
    CHECK(paused.code == 0);
    CHECK(box.status() == "paused");
    CHECK(runner({"pause", box.id}).code == 1);
    CHECK(runner({"exec", box.id, "true"}).code != 0);
    CHECK(runner({"resume", box.id}).code == 0);
    CHECK(box.status() == "running");
    CHECK(runner({"resume", box.id}).err.find("container not paused") != std::string::npos);
    CHECK(runner({"exec", box.id, "true"}).code == 0);
  }

  TEST_CASE("a paused container can be killed and deleted") {
    SKIP_UNLESS(is_root(), "root");
    Bundle bundle({"sleep", "60"});
    Box box;
    REQUIRE(runner_apart({"run", "-d", "-b", bundle.path(), box.id}, bundle).code == 0);
    REQUIRE(runner({"pause", box.id}).code == 0);
    CHECK(runner({"kill", box.id, "KILL"}).code == 0);
    CHECK(eventually([&] { return box.status() == "stopped"; }));
    CHECK(runner({"delete", box.id}).code == 0);
    CHECK(remains_of(box.id) == "");
  }

  TEST_CASE("a container that was created and never started is deleted without force") {
    SKIP_UNLESS(is_root(), "root");
    Bundle bundle({"sleep", "60"});
    Box box;
    REQUIRE(create(bundle, box).code == 0);
    pid_t pid = box.state()["pid"];
    Ran deleted = runner({"delete", box.id});
    CHECK(deleted.code == 0);
    CHECK(!alive(pid));
    CHECK(remains_of(box.id) == "");
  }

  TEST_CASE("a container outlives the program that ran create, and what it writes goes on to arrive") {
    SKIP_UNLESS(is_root(), "root");
    Bundle bundle({"sh", "-c", "echo one; sleep 0.3; echo two"});
    Box box;
    REQUIRE(create(bundle, box).code == 0);
    REQUIRE(start(box).code == 0);
    CHECK(eventually([&] { return written(bundle) == "one\ntwo\n"; }));
    CHECK(eventually([&] { return box.status() == "stopped"; }));
  }

  TEST_CASE("features names what the runtime supports") {
    json features = json::parse(runner({"features"}).out);
    CHECK(features["ociVersionMax"].get<std::string>().substr(0, 2) == "1.");
    CHECK(features["hooks"].size() == 6);
    CHECK(features["linux"]["namespaces"].size() >= 7);
    Ran version = runner({"--version"});
    CHECK(version.out.rfind("runner version ", 0) == 0);
    CHECK(version.out.find("\nspec: ") != std::string::npos);
  }
}
