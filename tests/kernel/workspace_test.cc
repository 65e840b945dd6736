// The workspace of a policy: inputs that nobody can change, and a quota of its own.
#include <doctest/doctest.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>

#include "tests/kernel/live.h"

using namespace tests;
using nlohmann::json;

namespace {

bool has_loop() { return is_root() && ::access("/dev/loop-control", R_OK | W_OK) == 0; }

Ran in(const std::string& policy, const Args& flags, const std::string& script, const How& how = {}) {
  Args arguments{"run", "--rm", "--output", "raw", "--policy", policy};
  arguments.insert(arguments.end(), flags.begin(), flags.end());
  arguments.insert(arguments.end(), {"--", "sh", "-c", script});
  return runner(arguments, how);
}

// Every way in which a program could change them.
const char* const kTry =
    "ls inputs; cat inputs/a 2>/dev/null; (echo x >>inputs/a) 2>/dev/null || echo no; touch inputs/b 2>/dev/null || echo no; mv inputs old 2>/dev/null || echo no; "
    "rm -rf inputs/* 2>/dev/null; chmod 777 inputs 2>/dev/null || echo no; echo out >result && cat result";

}  // namespace

TEST_SUITE("workspace") {
  TEST_CASE("inputs are read-only in every kind of workspace, and the rest of it is not") {
    SKIP_UNLESS(is_root(), "root");
    Folder folder;
    folder.write("p.yaml", "version: 1\nextends: default\nworkspace: {inputs: read-only}\n");
    folder.write("work/inputs/a", "text\n", 0666);
    folder.write("given/a", "given\n", 0666);
    run({"chown", "-R", "1000:1000", folder / "work", folder / "given"});
    std::string policy = folder / "p.yaml", no = "no\nno\nno\nno\nout\n";
    CHECK(in(policy, {}, kTry).out == no);
    CHECK(in(policy, {"-v", folder / "work:/workspace"}, kTry).out == "a\ntext\n" + no);
    CHECK(in(policy, {"-v", folder / "given:/workspace/inputs:ro"}, kTry).out == "a\ngiven\n" + no);
    // Whatever the order of the flags.
    CHECK(in(policy, {"-v", folder / "given:/workspace/inputs:ro", "-v", folder / "work:/workspace/"}, kTry).out == "a\ngiven\n" + no);
    CHECK(in(policy, {"--tmpfs", "/workspace/inputs"}, kTry).out == no);
    Ran refused = in(policy, {"-v", folder / "given:/workspace/inputs"}, "true");
    CHECK(refused.code == 125);
    CHECK(refused.err.find("may not be writable (policy: p, workspace.inputs)") != std::string::npos);
    CHECK(read(folder / "work/inputs/a") == "text\n");
    CHECK(read(folder / "given/a") == "given\n");
  }

  TEST_CASE("a volume whose last session has put a link in the place of its inputs starts nothing") {
    SKIP_UNLESS(is_root(), "root");
    Folder folder;
    folder.write("p.yaml", "version: 1\nextends: default\nworkspace: {inputs: read-only}\n");
    std::string name = "v" + fresh_id();
    CHECK(runner({"run", "--rm", "-v", name + ":/workspace", "--", "ln", "-s", "/tmp", "/workspace/inputs"}).code == 0);
    Ran ran = in(folder / "p.yaml", {"-v", name + ":/workspace"}, "true");
    CHECK(ran.code == 125);
    CHECK_MESSAGE(ran.err.find("/workspace/inputs") != std::string::npos, ran.err);
    CHECK(runner({"volume", "rm", name}).code == 0);
  }

  TEST_CASE("the quota holds for the workspace alone, and the session's files elsewhere have no part in it") {
    SKIP_UNLESS(has_loop(), "root and loop devices");
    Folder folder;
    folder.write("p.yaml", "version: 1\nextends: default\nworkspace: {quota: 16M, inputs: read-only}\n");
    Session s = session({"--policy", folder / "p.yaml"}, {"/bin/sh", "-c",
                        "stat -c %u:%g:%a /workspace; dd if=/dev/zero of=/tmp/f bs=1M count=40 2>/dev/null && echo fits; ls -A /workspace; "
                        "dd if=/dev/zero of=/workspace/f bs=16k count=4000 2>/dev/null || { echo full; exit 3; }"});
    CHECK(s.out == "1000:1000:755\nfits\ninputs\nfull\n");
    CHECK(s.result() == "disk-quota");
    CHECK(s.events.at(0)["data"]["limits"]["workspace"] == std::to_string(16 << 20));
    CHECK(find(s.events, "sandbox.ready")->at("data")["workspace"] == "loop image");
    CHECK(remains_of(s.id) == "");

    Away lasting({"--policy", folder / "p.yaml"});
    json limit = json::parse(runner({"inspect", lasting.box.id}).out)[0]["limits"]["workspace"];
    CHECK(limit == json{{"bytes", 16 << 20}, {"kept_by", "loop image"}});
    Ran refused = in(folder / "p.yaml", {"-v", folder.path() + ":/workspace"}, "true");
    CHECK(refused.code == 125);
    CHECK(refused.err.find("cannot be put on a folder of the host") != std::string::npos);
  }

  TEST_CASE("a volume has its quota from its file system, and none without one") {
    SKIP_UNLESS(has_loop(), "root and loop devices");
    Folder folder;
    folder.write("p.yaml", "version: 1\nextends: default\non_missing: error\nworkspace: {quota: 16M, volume: kept}\n");
    folder.write("w.yaml", "version: 1\nextends: p.yaml\non_missing: warn\n");
    std::string image = folder / "image", place = folder / "data", policy = folder / "p.yaml";
    How none{.env = {{"RUNNER_DATA", folder / "none"}}}, how{.env = {{"RUNNER_DATA", place}}};
    Ran refused = in(policy, {}, "true", none);
    CHECK(refused.code == 125);
    CHECK_MESSAGE(refused.err.find("only a project quota of its file system can") != std::string::npos, refused.err);
    Ran warned = runner({"run", "--rm", "--policy", folder / "w.yaml", "--", "true"}, none);
    CHECK(warned.code == 0);
    CHECK(warned.out.find("\"limit\":\"workspace quota\"") != std::string::npos);

    std::filesystem::create_directory(place);
    Ran made = run({"sh", "-c", "truncate -s 256M " + image + " && mkfs.ext4 -q -F -O quota,project -E quotatype=prjquota " + image +
                                    " && mount -o loop,prjquota " + image + " " + place});
    SKIP_UNLESS(made.code == 0, "project quotas in this kernel");
    struct Unmount {
      const std::string& place;
      ~Unmount() { ::umount2(place.c_str(), MNT_DETACH); }
    } unmount{place};
    CHECK(in(policy, {}, "dd if=/dev/zero of=a bs=1M count=10 2>/dev/null; dd if=/dev/zero of=b bs=1M count=10 2>/dev/null || echo full", how).out == "full\n");
    CHECK(in(policy, {}, "rm b; dd if=/dev/zero of=b bs=1M count=10 2>/dev/null || echo full", how).out == "full\n");  // a's bytes are still counted
    CHECK(runner({"volume", "create", "plain"}, how).code == 0);
    CHECK(runner({"run", "--rm", "-v", "plain:/workspace", "--", "touch", "x"}, how).code == 0);
    Ran before = in(policy, {"-v", "plain:/workspace"}, "true", how);
    CHECK(before.code == 125);
    CHECK_MESSAGE(before.err.find("written without one") != std::string::npos, before.err);
  }
}
