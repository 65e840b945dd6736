// What checkpoint and restore refuse, and what is left then: the container as it was, and nothing of one that did not come back.
#include <doctest/doctest.h>
#include <unistd.h>

#include <filesystem>

#include "tests/snapshot/containers.h"

using namespace tests;
using nlohmann::json;

namespace {

// Refused in one line, and without a trace of it.
std::string refused(const Counter& one, const Args& flags = {}, const How& how = {}) {
  Ran ran = one.restore(flags, how);
  CHECK(ran.code == 1);
  CHECK(remains_of(one.box.id) == "");
  return ran.err;
}

bool has(const std::string& text, const std::string& part) {
  if (text.find(part) != std::string::npos) return true;
  std::printf("not in: %s\n", text.c_str());
  return false;
}

}  // namespace

TEST_SUITE("container checkpoint, bad input") {
  TEST_CASE("what cannot be checkpointed is told, and goes on") {
    SKIP_UNLESS(is_root(), "root");
    CHECK(has(runner({"checkpoint", "nobody-knows-it"}).err, "container does not exist"));
    Counter one;
    CHECK(has(one.checkpoint({"--manage-cgroups-mode", "wild"}).err, "--manage-cgroups-mode"));
    CHECK(has(one.checkpoint({"--empty-ns", "ipc"}).err, "--empty-ns"));
    CHECK(has(one.checkpoint({"--page-server", "nowhere"}).err, "ADDRESS:PORT"));
    CHECK(has(one.checkpoint({"--lazy-pages"}).err, "--page-server"));
    one.bundle.write("file", "");
    Ran unwritable = runner({"checkpoint", "--image-path", one.bundle / "file/images", one.box.id});
    CHECK(unwritable.code == 1);
    CHECK(has(unwritable.err, one.bundle / "file"));
    How without;
    without.env["RUNNER_CRIU"] = "/nowhere/criu";
    Ran no_criu = one.checkpoint({}, without);
    CHECK(no_criu.code == 1);
    CHECK(has(no_criu.err, "/nowhere/criu"));
    CHECK(has(no_criu.err, "scripts/setup"));
    CHECK(one.box.status() == "running");
    CHECK(one.says("goes on", "goes on 1"));
    REQUIRE(runner({"kill", one.box.id, "KILL"}).code == 0);
    REQUIRE(one.live.wait() == 137);
    CHECK(has(one.checkpoint().err, "container not running"));
  }

  TEST_CASE("one that waits for `start`, and one that shares a namespace") {
    SKIP_UNLESS(is_root(), "root");
    Bundle bundle({"sleep", "60"});
    Box box;
    REQUIRE(create(bundle, box).code == 0);
    CHECK(has(runner({"checkpoint", "--image-path", bundle / "images", box.id}).err, "created"));
    Bundle host({"sleep", "60"});
    json kept = json::array();
    for (const json& n : host.config["linux"]["namespaces"])
      if (n["type"] != "pid") kept.push_back(n);
    host.config["linux"]["namespaces"] = kept;
    host.save();
    Box other;
    REQUIRE(create(host, other, {}).code == 0);
    REQUIRE(start(other).code == 0);
    CHECK(has(runner({"checkpoint", "--image-path", host / "images", other.id}).err, "pid namespace"));
    CHECK(other.status() == "running");
  }

  TEST_CASE("what cannot be restored is told, and leaves nothing") {
    SKIP_UNLESS(is_root(), "root");
    Counter one;
    Box nothing;
    CHECK(has(run(one.restoring(nothing.id)).err, "no such folder"));  // before there is one
    CHECK(remains_of(nothing.id) == "");
    REQUIRE(one.checkpoint({"--leave-running"}).code == 0);
    CHECK(has(one.restore().err, "container with given ID already exists"));
    CHECK(one.says("unharmed", "unharmed 1"));
    REQUIRE(one.put_away());

    How without;
    without.env["RUNNER_CRIU"] = "/nowhere/criu";
    CHECK(has(refused(one, {}, without), "/nowhere/criu"));
    CHECK(has(refused(one, {"--console-socket", "/tmp/x"}), "process.terminal"));

    json record = json::parse(read(one.images + "/runner.json"));
    json other = record;
    other["kernel"] = "2.6.32";
    one.bundle.write("images/runner.json", other.dump());
    CHECK(has(refused(one), "2.6.32"));
    one.bundle.write("images/runner.json", "{\"version\":");
    CHECK(has(refused(one), "runner.json is damaged"));
    std::filesystem::remove(one.images + "/runner.json");
    CHECK(has(refused(one), "runner.json"));
    one.bundle.write("images/runner.json", record.dump());

    std::string pages = read(one.images + "/pages-1.img"), core = read(one.images + "/core-1.img");
    std::filesystem::resize_file(one.images + "/pages-1.img", pages.size() - 1);
    CHECK(has(refused(one), "pages-1.img"));
    one.bundle.write("images/pages-1.img", pages);
    one.bundle.write("images/core-1.img", std::string(core.size(), 'x'));
    CHECK(has(refused(one), "criu cannot restore"));
    std::filesystem::remove(one.images + "/core-1.img");
    CHECK(has(refused(one), "core-1.img is missing"));
    one.bundle.write("images/core-1.img", core);

    json mounts = one.bundle.config["mounts"];
    for (auto it = one.bundle.config["mounts"].begin(); it != one.bundle.config["mounts"].end(); ++it)
      if ((*it)["destination"] == "/dev/shm") {
        one.bundle.config["mounts"].erase(it);
        break;
      }
    one.bundle.save();
    CHECK(has(refused(one), "/dev/shm"));
    one.bundle.config["mounts"] = mounts;
    one.bundle.save();

    Live then(one.restoring(one.box.id));  // and it still is what it was
    then.send("a\n");
    CHECK(then.await("a 2"));
  }

  TEST_CASE("a hook that fails ends the restore") {
    SKIP_UNLESS(is_root(), "root");
    Counter one;
    REQUIRE(one.put_away());
    one.bundle.config["hooks"]["createRuntime"] = {{{"path", "/bin/false"}}};
    one.bundle.save();
    CHECK(has(refused(one), "createRuntime"));
  }
}
