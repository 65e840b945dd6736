// The limit of what a session's files take on the disk, by both ways of enforcing it.
#include <doctest/doctest.h>
#include <sys/mount.h>
#include <unistd.h>

#include <filesystem>

#include "tests/kernel/live.h"

using namespace tests;
using nlohmann::json;

namespace {

constexpr std::uint64_t kMegabyte = 1 << 20;

bool has_loop() { return is_root() && ::access("/dev/loop-control", R_OK | W_OK) == 0; }

// Files on which devices of ours lie: what a session leaves would stay here.
std::string loops_of(const std::string& part) {
  std::string found;
  for (const auto& entry : std::filesystem::directory_iterator("/sys/block"))
    if (std::string file = read(entry.path() / "loop/backing_file"); file.find(part) != std::string::npos) found += file;
  return found;
}

void check_full(const Session& s, std::uint64_t limit, const std::string& source) {
  CHECK(s.facts.at("error") == (source.find("quotactl") == 0 ? "EDQUOT" : "ENOSPC"));
  CHECK(std::stoul(s.facts.at("written")) * kMegabyte <= limit);
  CHECK(std::stoul(s.facts.at("written")) * kMegabyte >= limit * 3 / 4);  // the rest is the file system's own
  CHECK(s.result() == "disk-quota");
  CHECK(s.end["evidence"]["source"].get<std::string>().find(source) == 0);
  auto reached = find(s.events, "limit.reached");
  REQUIRE(reached);
  CHECK(reached->at("data")["limit"] == "disk");
  CHECK(reached->at("data")["value"] == limit);
  CHECK(s.ran.err.find("the disk limit of ") != std::string::npos);
}

}  // namespace

TEST_SUITE("disk") {
  TEST_CASE("a session fills its own disk and not the host's; nothing of it is left") {
    SKIP_UNLESS(has_loop(), "root and loop devices");
    Session s = session({"--storage-opt", "size=32M"}, {"/probe", "eat-tmpfs", "/workspace", "64"});
    check_full(s, 32 * kMegabyte, "statfs(2)");
    CHECK(remains_of(s.id) == "");
    CHECK(loops_of(s.id) == "");
  }

  TEST_CASE("below the limit all is as without it, and what is deleted can be written again") {
    SKIP_UNLESS(has_loop(), "root and loop devices");
    Session s = session({"--storage-opt", "size=64M"}, {"/bin/sh", "-c",
                        "for i in 1 2 3 4; do dd if=/dev/zero of=/workspace/f bs=1M count=40 2>/dev/null || exit 9; rm /workspace/f; done"});
    CHECK(s.result() == "success");
    CHECK(!find(s.events, "limit.reached"));
    CHECK(s.events.at(0)["data"]["limits"]["disk"] == std::to_string(64 * kMegabyte));
  }

  TEST_CASE("a project quota is used where the file system enforces one") {
    SKIP_UNLESS(has_loop(), "root and loop devices");
    Folder folder;
    std::string image = folder / "image", place = folder / "data";
    std::filesystem::create_directory(place);
    Ran made = run({"sh", "-c", "truncate -s 256M " + image + " && mkfs.ext4 -q -F -O quota,project -E quotatype=prjquota " + image +
                                    " && mount -o loop,prjquota " + image + " " + place});
    SKIP_UNLESS(made.code == 0, "project quotas in this kernel");
    struct Unmount {
      const std::string& place;
      ~Unmount() { ::umount2(place.c_str(), MNT_DETACH); }
    } unmount{place};
    Session s = session({"--storage-opt", "size=32M"}, {"/probe", "eat-tmpfs", "/workspace", "64"}, {.env = {{"RUNNER_DATA", place}}});
    check_full(s, 32 * kMegabyte, "quotactl(2)");
    CHECK(std::filesystem::is_empty(place + "/sessions"));
  }

  TEST_CASE("without quota and loop devices a file system in memory keeps the limit, and everybody is told") {
    SKIP_UNLESS(is_root(), "root");
    // As on a host without the loop module.
    auto without_loop = [](const Args& arguments) {
      Args argv{"unshare", "-m", "sh", "-c", "mount --bind /dev/null /dev/loop-control && exec \"$@\"", "sh"};
      Args rest = runner_argv(arguments);
      argv.insert(argv.end(), rest.begin(), rest.end());
      return run(argv);
    };
    Box box;
    Ran ran = without_loop({"run", "--rm", "--name", box.id, "--storage-opt", "size=32M", "--", "sh", "-c", "dd if=/dev/zero of=/workspace/f bs=1M count=64 2>/dev/null || exit 3"});
    Events events = events_of(ran.out);
    CHECK(ran.code == 3);
    CHECK(find(events, "sandbox.ready")->at("data")["disk"] == "memory");
    CHECK(ended(events)["result"] == "disk-quota");
    CHECK_MESSAGE(ran.err.find("the disk limit is kept by a file system in memory") != std::string::npos, ran.err);
    CHECK(remains_of(box.id) == "");
    CHECK(without_loop({"check"}).out.find("files count against the memory limit") != std::string::npos);
  }

  TEST_CASE("a limit that nothing can enforce is an error that names both ways, and a warning where the policy wants one") {
    SKIP_UNLESS(is_root(), "root, to become an ordinary user");
    Folder home;
    home.write("strict.yaml", "version: 1\nrootfs: {view: host}\non_missing: error\n");
    run({"chown", "-R", "1234:1234", home.path()});
    How how{.env = {{"HOME", home.path()}, {"XDG_RUNTIME_DIR", home.path()}, {"RUNNER_DATA", home / "data"}}, .cwd = home.path(), .uid = 1234};
    Ran warned = runner({"run", "--rm", "--storage-opt", "size=32M", "--", "true"}, how);
    CHECK(warned.code == 0);
    CHECK(warned.err.find("the disk limit is not in force") != std::string::npos);
    CHECK(warned.out.find("\"limit\":\"disk limit\"") != std::string::npos);
    Ran refused = runner({"run", "--rm", "--policy", "strict.yaml", "--storage-opt", "size=32M", "--", "true"}, how);
    CHECK(refused.code == 125);
    CHECK_MESSAGE(refused.err.find("no project quota, no loop device") != std::string::npos, refused.err);
  }

  TEST_CASE("a size that holds no file system is refused before anything starts") {
    Ran ran = runner({"run", "--rm", "--storage-opt", "size=3M", "--storage-opt", "inodes=5", "--", "true"});
    CHECK(ran.code == 125);
    CHECK(ran.err.find("--storage-opt: size must be from 4M to 16T") != std::string::npos);
    CHECK(ran.err.find("--storage-opt inodes=5: only size=N is known") != std::string::npos);
    CHECK(ran.out.empty());
  }
}
