// Holes of other runtimes in what is mounted where: links in the image, races with its owner, the host's own files.
#include <doctest/doctest.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>

#include "tests/security/support.h"

using namespace security;
using nlohmann::json;
namespace fs = std::filesystem;

namespace {

// A folder of the rootfs becomes a link.
void link_instead(const tests::Rootfs& image, const std::string& name, const std::string& to) {
  fs::remove_all(image.rootfs() + name);
  fs::create_symlink(to, image.rootfs() + name);
}

json bind_mount(const std::string& from, const std::string& to) {
  return {{"destination", to}, {"type", "bind"}, {"source", from}, {"options", {"bind", "rw"}}};
}

Ran run_rootfs(const tests::Rootfs& image, const Args& command, const Args& flags = {}) {
  data_dir();
  return tests::runner(
      concat(concat(concat({"run", "--rm", "--output", "raw", "--rootfs", image.rootfs()}, flags), {"--"}), command));
}

std::string metadata(const std::string& path) {
  struct stat info;
  if (::stat(path.c_str(), &info)) return "missing";
  return std::to_string(info.st_mode) + " " + std::to_string(info.st_uid) + " " + std::to_string(info.st_mtim.tv_sec) +
         "." + std::to_string(info.st_mtim.tv_nsec);
}

}  // namespace

TEST_SUITE("holes of mounts") {
  TEST_CASE(
      "CVE-2019-19921, CVE-2023-27561, CVE-2026-41579, CVE-2026-47766: /proc, /sys or /dev as a link is refused") {
    SKIP_UNLESS(tests::is_root(), "root");
    for (const char* name : {"/proc", "/sys", "/dev"}) {
      CAPTURE(name);
      Canary canary;
      for (const std::string& to : {canary.dir(), std::string("/tmp"),
                                    std::string("../../../../../../..") + canary.dir(), std::string("/missing")}) {
        Container container({"/bin/ls", "/"});
        CHECK(container.run().code == 0);  // control: the same image without the link
        link_instead(container, name, to);
        Ran ran = container.run();
        CHECK(ran.code != 0);
        CHECK(ran.out == "");
        CHECK(ran.err.find(std::string("open ") + name + " inside the root (it is a link, and must be mounted on ordinary directory): Too many levels of symbolic links") !=
              std::string::npos);
        if (std::string(name) != "/sys") {
          Ran session = run_rootfs(container, {"/bin/ls"});
          CHECK(session.code == 125);
          CHECK(session.err.find(std::string(name) + " is a symbolic link") != std::string::npos);
        }
      }
      CHECK(canary.changed() == "");
    }
  }

  TEST_CASE("CVE-2019-16884, CVE-2025-52881: nothing is mounted over a part of /proc") {
    SKIP_UNLESS(tests::is_root(), "root");
    Canary canary;
    for (const char* to : {"/proc/self/attr", "/proc/sys", "/proc/kcore", "/proc/sysrq-trigger",
                           "/proc/sys/kernel/core_pattern", "/link/sys", "/link/self/attr/exec"}) {
      CAPTURE(to);
      Container container({"/bin/true"});
      fs::create_directory_symlink("/proc", container.rootfs() + "/link");
      container.config["mounts"].push_back(bind_mount(canary.dir(), to));
      container.save();
      Ran ran = container.run();
      CHECK(ran.code != 0);
      bool reason = ran.err.find("lies inside /proc") != std::string::npos ||
                    ran.err.find("inside the root") != std::string::npos;
      CHECK_MESSAGE(reason, ran.err);
    }
    CHECK(canary.changed() == "");
  }

  TEST_CASE("CVE-2025-31133: masks do not come from the image's /dev/null, and the host's stays as it is") {
    SKIP_UNLESS(tests::is_root(), "root");
    Canary canary;
    std::string before = metadata("/dev/null");
    for (bool own_dev : {true, false}) {
      CAPTURE(own_dev);
      Container container(
          {"/bin/sh", "-c",
           "echo pwned >/proc/keys; cat /proc/keys; touch -d '2001-02-03 04:05' /proc/keys; stat -c %t:%T /proc/keys"});
      fs::create_symlink(canary.file(), container.rootfs() + "/dev/null");
      if (own_dev)  // without a tmpfs on /dev the image's own is what is there
        std::erase_if(container.config["mounts"].get_ref<json::array_t&>(),
                      [](const json& m) { return m["destination"].get<std::string>().rfind("/dev", 0) == 0; });
      container.save();
      Ran ran = container.run();
      if (ran.code == 0) CHECK(ran.out == "1:3\n");  // the real null device, empty and not writable in its inode
      CHECK(canary.changed() == "");
      CHECK(ran.out.find(Canary::kSecret) == std::string::npos);
      CHECK(metadata("/dev/null") == before);
    }
    // Control: a plain bind of the node is the host's inode.
    Folder folder;
    folder.write("node", "");
    std::string target = folder / "node";
    Ran control = tests::run({"unshare", "-m", "sh", "-c",
                              "mknod \"$0.real\" c 1 3 && mount --bind \"$0.real\" \"$0\" && touch -d '2001-02-03 "
                              "04:05' \"$0\" && stat -c %Y \"$0.real\"",
                              target});
    CHECK(control.out.rfind("9811", 0) == 0);
  }

  TEST_CASE("CVE-2025-52565: a console is made of the container's own devpts or not at all") {
    SKIP_UNLESS(tests::is_root(), "root");
    Canary canary;
    Container container({"/bin/true"});
    container.config["process"]["terminal"] = true;
    for (const char* without : {"/dev/pts", "/dev"}) {
      std::erase_if(container.config["mounts"].get_ref<json::array_t&>(),
                    [&](const json& m) { return m["destination"].get<std::string>().rfind(without, 0) == 0; });
      fs::remove_all(container.rootfs() + "/dev");
      fs::create_directories(container.rootfs() + "/dev");
      if (std::string(without) == "/dev") {
        fs::create_directory_symlink(canary.dir(), container.rootfs() + "/dev/pts");
        fs::create_symlink(canary.file(), container.rootfs() + "/dev/console");
      }
      container.save();
      Ran ran = container.run();
      CHECK(ran.code != 0);
      bool reason = ran.err.find("no devpts is mounted there") != std::string::npos ||
                    ran.err.find("/dev/pts inside the root") != std::string::npos;
      CHECK_MESSAGE(reason, ran.err);
      CHECK(canary.changed() == "");
    }
  }

  TEST_CASE("CVE-2025-24965: /etc/hosts, /etc/resolv.conf and /etc as links of the image are never written through") {
    SKIP_UNLESS(tests::is_root(), "root");
    Canary canary;
    for (const char* name : {"/etc/hosts", "/etc/resolv.conf", "/etc/hostname", "/etc/passwd", "/etc"}) {
      CAPTURE(name);
      for (const std::string& to : {std::string(name) == "/etc" ? canary.dir() : canary.file(),
                                    std::string("/../../../../../..") + canary.file()}) {
        tests::Rootfs image;
        link_instead(image, name, to);
        Ran ran = run_rootfs(image, {"/bin/cat", "/etc/hosts"});
        if (ran.code == 0)
          CHECK(ran.out.find("127.0.0.1 localhost") != std::string::npos);
        else
          CHECK(ran.err.find(std::string(name) + " is a symbolic link to ") != std::string::npos);
        CHECK(ran.out.find(Canary::kSecret) == std::string::npos);
        CHECK(canary.changed() == "");
        CHECK(fs::read_symlink(image.rootfs() + name) == to);  // nor is the image
      }
    }
  }

  TEST_CASE("CVE-2021-30465, CVE-2024-45310: a mount target that is exchanged with a link while containers start") {
    SKIP_UNLESS(tests::is_root(), "root");
    Canary canary;
    Folder volume;
    fs::create_directories(volume / "target");
    fs::create_directory_symlink("/../../../../../../../.." + canary.path(), volume / "link");
    Background racer({attack_path(), "exchange", volume / "target", volume / "link"});
    REQUIRE(racer.await("ready="));
    Container container({"/bin/sh", "-c", "cat /proc/self/mountinfo"});
    container.write("marked/mark", "of the mount");
    container.config["mounts"].push_back(bind_mount(volume.path(), "/volume"));
    container.config["mounts"].push_back(bind_mount(container / "marked", "/volume/target/mounted"));
    container.config["mounts"].push_back(
        {{"destination", "/volume/target/new/file"}, {"type", "tmpfs"}, {"source", "tmpfs"}});
    container.save();
    int rounds = count("ATTACK_ROUNDS", 100), started = 0, refused = 0;
    for (int n = 0; n < rounds; ++n) {
      container.id = tests::fresh_id();
      Ran ran = container.run();
      ran.code == 0 ? ++started : ++refused;
      if (ran.code == 0)
        CHECK(ran.out.find(" /volume") != std::string::npos);
      else
        CHECK(ran.err.find("inside the root") != std::string::npos);
    }
    MESSAGE(started << " started, " << refused << " refused");
    CHECK(started + refused == rounds);
    CHECK(canary.changed() == "");
    CHECK(tests::read("/proc/self/mountinfo").find(canary.path()) == std::string::npos);
    // Control: mkdir -p by path goes through the link.
    racer.signal(SIGKILL);
    Canary victim;
    fs::create_directory_symlink(victim.path(), volume / "other");
    tests::run({"mkdir", "-p", volume / "other/made"});
    CHECK(victim.changed() != "");
  }

  TEST_CASE(
      "CVE-2024-42472: the source of a bind is followed and judged once, and what is put there afterwards is refused") {
    SKIP_UNLESS(tests::is_root(), "root");
    Folder base;
    base.write("real/good", "good");
    fs::create_directory_symlink("real", base / "link");
    fs::create_directory_symlink("/etc", base / "to-etc");
    auto look = [&](const std::string& from) {
      return tests::runner(session({"--output", "raw", "-v", from + ":/workspace"}, {"ls", "/workspace"}));
    };
    CHECK(look(base / "link").out == "good\n");  // documented: links in the source are followed …
    Ran refused = look(base / "to-etc");         // … and the policy is asked about where they lead
    CHECK(refused.code == 125);
    CHECK(refused.err.find("/etc of the host may not be shown") != std::string::npos);

    // Between the judgement and the mount another session may put a link in the place of a folder that it can write to.
    fs::create_directories(base / "shared/sub/data");
    base.write("shared/sub/data/good", "good");
    fs::create_directories(base / "shared/aside");
    fs::create_directory_symlink("/etc", base / "shared/aside/data");
    Background racer({attack_path(), "exchange", base / "shared/sub", base / "shared/aside"});
    REQUIRE(racer.await("ready="));
    int good = 0, judged = 0, caught = 0;
    for (int n = count("ATTACK_ROUNDS", 100); n > 0; --n) {
      Ran ran = look(base / "shared/sub/data");
      if (ran.code == 0) {
        ++good;
        CHECK(ran.out == "good\n");
        continue;
      }
      CHECK(ran.code == 125);
      bool policy =
          ran.err.find("may not be shown") != std::string::npos || ran.err.find("there is no") != std::string::npos;
      policy ? ++judged : ++caught;
      if (!policy) CHECK(ran.err.find("symbolic link") != std::string::npos);
    }
    MESSAGE(good << " good, " << judged << " refused by the policy, " << caught << " caught in the race");
  }
}
