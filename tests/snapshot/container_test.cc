// `checkpoint` and `restore` of containers: what goes on afterwards, and what the engines count on.
#include <doctest/doctest.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <sstream>

#include "tests/snapshot/containers.h"
#include "tests/support/console.h"

using namespace tests;
using nlohmann::json;

namespace {

// Sorted: the order of mounts that do not cover each other says nothing.
std::string mounts_in(const Box& box) {
  std::istringstream lines(runner({"exec", box.id, "cat", "/proc/mounts"}).out);
  std::vector<std::string> all;
  for (std::string line; std::getline(lines, line);) all.push_back(line);
  std::sort(all.begin(), all.end());
  std::string text;
  for (const std::string& line : all) text += line + "\n";
  return text;
}

}  // namespace

TEST_SUITE("container checkpoint") {
  TEST_CASE("an annotation lets `create` restore, and `start` let it go on") {
    SKIP_UNLESS(is_root(), "root");
    Counter one(Args{"sh", "-c", "echo ready=1; n=0; while :; do n=$((n+1)); echo $n >/dev/shm/count; sleep 0.01; done"});
    REQUIRE(eventually([&] { return runner({"exec", one.box.id, "cat", "/dev/shm/count"}).out.size() > 2; }));
    REQUIRE(one.put_away());
    one.bundle.config["annotations"]["dev.runner.restore"] = one.images;
    one.bundle.save();
    Ran ran = create(one.bundle, one.box);
    CHECK(ran.err == "");
    REQUIRE(ran.code == 0);
    CHECK(one.box.status() == "created");
    std::string count = "/proc/" + std::to_string(one.box.state()["pid"].get<int>()) + "/root/dev/shm/count";
    std::string held = read(count);
    CHECK(held != "");
    ::usleep(100'000);
    CHECK(read(count) == held);  // nothing runs yet
    REQUIRE(start(one.box).code == 0);
    CHECK(one.box.status() == "running");
    CHECK(eventually([&] { return std::atoi(read(count).c_str()) > std::atoi(held.c_str()); }));
    CHECK(runner({"delete", "-f", one.box.id}).code == 0);
    CHECK(remains_of(one.box.id) == "");
    one.bundle.config["annotations"]["dev.runner.restore"] = one.bundle / "nothing";
    one.bundle.save();
    Ran missing = create(one.bundle, one.box);
    CHECK(missing.code == 1);
    CHECK(missing.err.find("there is no such folder") != std::string::npos);
    CHECK(remains_of(one.box.id) == "");
  }

  TEST_CASE("a program goes on in the middle of its loop, with other pipes, behind the same walls") {
    SKIP_UNLESS(is_root(), "root");
    Counter one;
    REQUIRE(one.says("before", "before 1"));
    std::string mounts = mounts_in(one.box);
    Ran ran = one.checkpoint({"--work-path", one.bundle / "work"});
    CHECK(ran.err == "");
    REQUIRE(ran.code == 0);
    CHECK(one.live.wait() == 137);
    CHECK(one.box.status() == "stopped");
    CHECK(read(one.bundle / "work/dump.log").find("Dumping finished successfully") != std::string::npos);
    CHECK(json::parse(read(one.images + "/descriptors.json")).size() == 3);
    REQUIRE(runner({"delete", one.box.id}).code == 0);
    CHECK(remains_of(one.box.id) == "");

    Live then(one.restoring(one.box.id, {"--work-path", one.bundle / "work"}));
    then.send("after\n");
    REQUIRE(then.await("after 2"));
    CHECK(one.box.status() == "running");
    CHECK(exists(one.bundle / "work/restore.log"));
    CHECK(mounts_in(one.box) == mounts);
    CHECK(runner({"exec", one.box.id, "echo", "still here"}).out == "still here\n");
    CHECK(runner({"exec", one.box.id, "sh", "-c", "echo >/dev/null && probe hostname"}).code == 0);
    CHECK(runner({"pause", one.box.id}).code == 0);
    CHECK(one.box.status() == "paused");
    CHECK(runner({"resume", one.box.id}).code == 0);
    CHECK(runner({"kill", one.box.id, "KILL"}).code == 0);
    CHECK(then.wait() == 137);
    CHECK(remains_of(one.box.id) == "");
  }

  TEST_CASE("one under our init, and one whose config.json has another name") {
    SKIP_UNLESS(is_root(), "root");
    for (bool init : {true, false}) {
      Counter one(counting(), [&](Bundle& bundle) {
        if (init) bundle.config["annotations"]["dev.runner.init"] = "true";
        if (init) return Args();
        std::string config = bundle / "other.json";
        std::ofstream(config) << bundle.config.dump();
        bundle.config["process"]["args"] = {"false"};
        bundle.config["mounts"] = json::array();
        return Args{"--config", config};
      });
      REQUIRE(one.says("a", "a 1"));
      REQUIRE(one.put_away());
      if (!init) std::filesystem::rename(one.bundle / "other.json", one.bundle / "config.json");
      Live then(one.restoring(one.box.id));
      then.send("b\n");
      CHECK(then.await("b 2"));
      CHECK(runner({"delete", "-f", one.box.id}).code == 0);
      CHECK(remains_of(one.box.id) == "");
    }
  }

  TEST_CASE("restore --detach leaves it to the caller, with its pid in a file; it can be checkpointed again, and deleted") {
    SKIP_UNLESS(is_root(), "root");
    Counter one;
    REQUIRE(one.put_away());
    Live then(one.restoring(one.box.id, {"--detach", "--pid-file", one.bundle / "pid"}));
    CHECK(then.wait() == 0);
    CHECK(std::to_string(one.box.state().value("pid", 0)) == read(one.bundle / "pid"));
    then.send("word\n");
    REQUIRE(then.await("word 1"));
    REQUIRE(one.checkpoint().code == 0);
    REQUIRE(runner({"delete", one.box.id}).code == 0);
    Live again(one.restoring(one.box.id, {"-d"}));
    CHECK(again.wait() == 0);
    again.send("word\n");
    CHECK(again.await("word 2"));
    CHECK(runner({"delete", "--force", one.box.id}).code == 0);
    CHECK(remains_of(one.box.id) == "");
  }

  TEST_CASE("--leave-running: it goes on, and beside it another one from the same moment") {
    SKIP_UNLESS(is_root(), "root");
    Counter one;
    REQUIRE(one.says("a", "a 1"));
    REQUIRE(one.checkpoint({"--leave-running"}).code == 0);
    CHECK(one.box.status() == "running");
    CHECK(one.says("b", "b 2"));
    Box other;
    Live then(one.restoring(other.id));
    then.send("c\n");
    CHECK(then.await("c 2"));
    CHECK(one.says("d", "d 3"));
  }

  TEST_CASE("a frozen one is checkpointed, and stays frozen with --leave-running") {
    SKIP_UNLESS(is_root(), "root");
    Counter one;
    REQUIRE(runner({"pause", one.box.id}).code == 0);
    Ran ran = one.checkpoint({"--leave-running"});
    CHECK(ran.err == "");
    CHECK(ran.code == 0);
    CHECK(one.box.status() == "paused");
    REQUIRE(runner({"resume", one.box.id}).code == 0);
    CHECK(one.says("a", "a 1"));
  }

  TEST_CASE("a pre-dump and what has changed since make one checkpoint; a kernel that cannot tell is named") {
    SKIP_UNLESS(is_root(), "root");
    Counter one;
    Ran first = runner({"checkpoint", "--pre-dump", "--image-path", one.bundle / "first", one.box.id});
    CHECK(one.box.status() == "running");
    if (first.code != 0) {
      CHECK(first.err.find("CONFIG_MEM_SOFT_DIRTY") != std::string::npos);
      CHECK(one.says("a", "a 1"));
      std::printf("SKIPPED: a kernel with CONFIG_MEM_SOFT_DIRTY\n");
      return;
    }
    CHECK(one.says("a", "a 1"));
    REQUIRE(one.put_away({"--parent-path", "../first"}));
    Live then(one.restoring(one.box.id));
    then.send("b\n");
    CHECK(then.await("b 2"));
  }

  TEST_CASE("connections inside go on with --tcp-established; without, the dump says so and the container goes on") {
    SKIP_UNLESS(is_root(), "root");
    Counter one({"sh", "-c", "nc -ll -p 7000 -e cat & sleep 0.3; echo ready=1; exec nc 127.0.0.1 7000"});
    REQUIRE(one.says("over", "over"));
    Ran refused = one.checkpoint();
    CHECK(refused.code == 1);
    CHECK(refused.err.find("tcp-established") != std::string::npos);
    CHECK(one.box.status() == "running");
    CHECK(one.says("goes on", "goes on"));
    if (Ran old = one.checkpoint({"--tcp-established", "--leave-running"}); old.err.find("needs CRIU 4.2") != std::string::npos) {
      CHECK(one.says("still", "still"));
      std::printf("SKIPPED: CRIU 4.2, or a kernel before 6.16\n");
      return;
    }
    REQUIRE(one.put_away({"--tcp-established"}));
    Live then(one.restoring(one.box.id, {"--tcp-established"}));
    then.send("and on\n");
    CHECK(then.await("and on"));
  }

  TEST_CASE("a terminal comes back, and its master goes to --console-socket") {
    SKIP_UNLESS(is_root(), "root");
    Bundle bundle({"sh", "-c", "n=0; while read word; do n=$((n+1)); echo $word=$n; done"});
    bundle.config["process"]["terminal"] = true;
    bundle.save();
    Console console(bundle);
    Box box;
    REQUIRE(create(bundle, box, {"--console-socket", console.path}).code == 0);
    REQUIRE(console.receive());
    REQUIRE(start(box).code == 0);
    console.type("a\n");
    CHECK(console.until("a=1").find("a=1") != std::string::npos);
    Ran ran = runner({"checkpoint", "--image-path", bundle / "images", box.id});
    CHECK(ran.err == "");
    REQUIRE(ran.code == 0);
    REQUIRE(runner({"delete", box.id}).code == 0);
    Folder folder;
    Console then(folder);
    Ran restored = runner_apart({"restore", "-d", "--image-path", bundle / "images", "-b", bundle.path(), "--console-socket", then.path, box.id}, folder);
    CHECK(restored.err == "");
    REQUIRE(restored.code == 0);
    REQUIRE(then.receive());
    then.type("b\n");
    CHECK(then.until("b=2").find("b=2") != std::string::npos);
  }

  TEST_CASE("files that it has written, a tmpfs that holds something, and a bind of the host's are there again") {
    SKIP_UNLESS(is_root(), "root");
    Folder shared;
    Bundle bundle({"sh", "-c", "echo one >/root-file; echo two >/ram/file; exec 3>/shared/file; echo three >&3; echo ready=1; "
                               "while read word; do echo $word >&3; cat /root-file /ram/file /shared/file; done"});
    bundle.config["root"]["readonly"] = false;
    bundle.config["mounts"].push_back({{"destination", "/ram"}, {"type", "tmpfs"}, {"source", "tmpfs"}});
    bundle.config["mounts"].push_back({{"destination", "/shared"}, {"type", "bind"}, {"source", shared.path()}, {"options", {"rbind"}}});
    bundle.save();
    Box box;
    {
      Live live(runner_argv({"run", "--keep", "-b", bundle.path(), box.id}));
      REQUIRE(live.await("ready=1"));
      REQUIRE(runner({"checkpoint", "--image-path", bundle / "images", box.id}).code == 0);
      REQUIRE(live.wait() == 137);
      REQUIRE(runner({"delete", box.id}).code == 0);
    }
    Live then(runner_argv({"restore", "--image-path", bundle / "images", "-b", bundle.path(), box.id}));
    then.send("four\n");
    CHECK(then.await("one\ntwo\nthree\nfour\n"));
  }

  TEST_CASE("hooks: prestart and createRuntime see the restored process's namespaces, poststop runs at its removal") {
    SKIP_UNLESS(is_root(), "root");
    Counter one;
    REQUIRE(one.put_away());
    for (const char* kind : {"prestart", "createRuntime", "createContainer", "startContainer", "poststop"})
      one.bundle.config["hooks"][kind] = {{{"path", "/bin/sh"}, {"args", {"sh", "-c", "cat >" + (one.bundle / kind)}}}};
    one.bundle.save();
    Live then(one.restoring(one.box.id));
    then.send("a\n");
    REQUIRE(then.await("a 1"));
    json state = json::parse(read(one.bundle / "createRuntime"));
    CHECK(state["status"] == "creating");
    CHECK(state["pid"] == one.box.state()["pid"]);
    CHECK(exists(one.bundle / "prestart"));
    CHECK(!exists(one.bundle / "startContainer"));
    CHECK(runner({"delete", "-f", one.box.id}).code == 0);
    then.wait();  // `restore` sees the end as well: the one or the other removes the container
    CHECK(exists(one.bundle / "poststop"));
  }

  TEST_CASE("the calls of podman and containerd") {
    SKIP_UNLESS(is_root(), "root");
    CHECK(runner({"checkpoint", "--help"}).code == 0);
    CHECK(runner({"restore", "--help"}).code == 0);
    Counter one;
    std::string log = one.bundle / "log", work = one.bundle.path();
    REQUIRE(run(runner_argv({"--log-format=json", "--log", log, "checkpoint", "--image-path", one.images, "--work-path", work, "--file-locks", "--manage-cgroups-mode",
                             "soft", "--empty-ns=network", "--ext-unix-sk", "--shell-job", "--tcp-established", "--tcp-skip-in-flight", one.box.id})).code == 0);
    REQUIRE(runner({"delete", "--force", one.box.id}).code == 0);
    Live then(runner_argv({"--log-format=json", "--log", log, "restore", "--bundle", one.bundle.path(), "--pid-file", one.bundle / "pid", "--detach", "--no-pivot",
                           "--no-subreaper", "--image-path", one.images, "--work-path", work, "--file-locks", "--manage-cgroups-mode=ignore", "--empty-ns", "network",
                           "--ext-unix-sk", "--shell-job", "--tcp-established", one.box.id}));
    CHECK(then.wait() == 0);
    CHECK(then.err == "");
    CHECK(read(log) == "");
    CHECK(one.box.status() == "running");
  }
}
