// Holes by which a sandbox, its files or its name reach the host: cgroups, libraries, profiles, ids, what is left to root.
#include <doctest/doctest.h>
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>

#include "tests/security/support.h"

using namespace security;
using nlohmann::json;
namespace fs = std::filesystem;

namespace {

std::string listing(const std::string& path) {
  std::string names;
  for (const auto& entry : fs::directory_iterator(path)) names += entry.path().filename().string() + "\n";
  return names;
}

}  // namespace

TEST_SUITE("holes to the host") {
  TEST_CASE("CVE-2022-0492: no release_agent can be reached from a container of the host's root") {
    SKIP_UNLESS(tests::is_root(), "root");
    Container container({"/bin/probe", "mounts"});
    Facts facts = facts_of(container.run());
    for (const char* key :
         {"mount-tmpfs", "mount-cgroup", "mount-cgroup2", "bind-root", "remount-dev", "umount-proc", "unshare-mount"})
      CHECK(facts[key] == "EPERM");
    const Args files{"/sys/fs/cgroup/cgroup.procs", "/sys/fs/cgroup/release_agent", "/sys/fs/cgroup/memory.max",
                     "/sys/kernel/uevent_helper",   "/proc/sysrq-trigger",          "/proc/sys/kernel/core_pattern",
                     "/proc/sys/kernel/modprobe"};
    container.config["process"]["args"] = concat({"/bin/probe", "write"}, files);
    container.save();
    Facts writes = facts_of(container.run());
    for (const std::string& file : files) {
      CAPTURE(file);
      bool shut = writes[file] == "EROFS" || writes[file] == "ENOENT";
      CHECK_MESSAGE(shut, writes[file]);
    }
    for (const char* set : {"bounding", "effective", "permitted"})
      container.config["process"]["capabilities"][set].push_back("CAP_SYS_ADMIN");
    container.config["process"]["args"] = {"/bin/probe", "mounts"};
    container.save();
    CHECK(facts_of(container.run())["mount-tmpfs"] == "0");  // control
  }

  TEST_CASE("CVE-2019-14271: nothing of the image is loaded into a process of ours") {
    SKIP_UNLESS(tests::is_root(), "root");
    SKIP_UNLESS(tests::run({"sh", "-c", "command -v strace"}).code == 0, "strace");
    Container container({"/bin/true"});
    container.write("rootfs/etc/nsswitch.conf", "passwd: evil\ngroup: evil\nhosts: evil\n");
    container.write("rootfs/etc/ld.so.preload", "/lib/evil.so\n");
    for (const char* library : {"rootfs/lib/evil.so", "rootfs/lib/x86_64-linux-gnu/libnss_evil.so.2",
                                "rootfs/lib/x86_64-linux-gnu/libnss_files.so.2"})
      container.write(library, "not loaded", 0755);
    std::string trace = container / "trace";
    auto traced = [&](const Args& command) {
      tests::run(
          concat({"strace", "-f", "-qq", "-e", "trace=open,openat,openat2,execve,execveat", "-o", trace}, command));
      return tests::read(trace);
    };
    std::string opened =
        traced({tests::runner_path(), "--root", tests::run_root(), "run", "-b", container.path(), container.id});
    CHECK(opened.find("/bin/true") != std::string::npos);
    // What the first process opens is the host's. Of the image, only /etc/passwd is read for HOME, by our own parser.
    std::string first = opened.substr(0, opened.find(' ')), others;
    for (const std::string& line : lines_with(opened, ""))
      if (line.rfind(first + " ", 0) != 0) others += line + "\n";
    opened = others;
    REQUIRE(opened.find("/bin/true") != std::string::npos);
    for (std::string word :
         {"nsswitch", "libnss", "evil", ".so", "gconv", "/locale", "/etc/group", "zoneinfo", "localtime"}) {
      CAPTURE(word);
      CHECK_MESSAGE(opened.find(word) == std::string::npos,
                    opened.substr(opened.rfind('\n', opened.find(word)) + 1, 200));
    }
    CHECK(traced({"getent", "passwd", "root"}).find("nsswitch") != std::string::npos);  // control
  }

  TEST_CASE("a seccomp profile in the working directory does not take the place of the policy's") {
    Folder folder;  // as a session before may have left it in its workspace
    for (const char* name : {"agent", "agent-arguments", "agent.json", "agent-arguments.json", "seccomp/agent.json",
                             "default", "default.yaml"})
      folder.write(name, "{\"defaultAction\":\"SCMP_ACT_ALLOW\"}");
    tests::How there;
    there.cwd = folder.path();
    Facts facts = inside({"-v", folder.path() + ":/workspace"}, {"mounts,arguments"}, there);
    CHECK(facts["unshare-user"] == "EPERM");
    CHECK(facts["tiocsti"] == "EPERM");
    CHECK(facts["chroot"] == "EPERM");
  }

  TEST_CASE("a cgroup that others live in is not taken over, and nobody in it is killed") {
    SKIP_UNLESS(tests::is_root(), "root");
    std::string name = "attack-" + tests::fresh_id(), group = cgroup_mounts().at(0) + "/" + name;
    REQUIRE(fs::create_directory(group));
    {
      Background bystander({"sleep", "60"});
      tests::run({"sh", "-c", "echo $0 > $1", std::to_string(bystander.pid()), group + "/cgroup.procs"});
      Container container({"/bin/true"});
      container.config["linux"]["cgroupsPath"] = "/" + name;
      container.save();
      Ran ran = container.run();
      CHECK(ran.code != 0);
      CHECK(ran.err.find("container's cgroup is not empty") != std::string::npos);
      CHECK(alive(bystander.pid()));
      for (const char* path : {"/", "/.", "/../..", "//", "/a/../.."}) {
        CAPTURE(path);
        container.config["linux"]["cgroupsPath"] = path;
        container.save();
        CHECK(container.run().code != 0);
      }
      CHECK(alive(bystander.pid()));
      container.config["linux"]["cgroupsPath"] = "/" + name + "/below";  // control: a group of its own
      container.save();
      CHECK(container.run().code == 0);
      CHECK(alive(bystander.pid()));
    }
    CHECK(eventually([&] { return ::rmdir(group.c_str()) == 0; }, 2000));
  }

  TEST_CASE("ids that are paths, flags, lines or too long are refused by every verb, and leave nothing") {
    data_dir();
    tests::runner({"list"});
    std::string root = fs::path(tests::run_root()).parent_path();
    std::string before = listing(root);
    Folder bundle;
    REQUIRE(tests::runner({"spec", "-b", bundle.path()}).code == 0);
    const Args ids{"../x",
                   "a/b",
                   "/x",
                   "..",
                   ".",
                   "",
                   "-rf",
                   "--force",
                   "x\ny",
                   "x\t",
                   "x y",
                   "x\x01",
                   "\xff\xfe",
                   "x;y",
                   "$(id)",
                   "*",
                   ".hidden",
                   "~",
                   "x\\y",
                   std::string(129, 'x'),
                   std::string(5000, 'x')};
    for (const std::string& id : ids) {
      CAPTURE(id);
      for (const Args& command : {Args{"run", "-b", bundle.path(), id},
                                  {"create", "-b", bundle.path(), id},
                                  {"start", id},
                                  {"state", id},
                                  {"kill", id},
                                  {"delete", id},
                                  {"delete", "-f", id},
                                  {"exec", id, "true"},
                                  {"pause", id},
                                  {"ps", id},
                                  {"run", "--rm", "--name=" + id, "--", "true"}}) {
        bool no_name = command[1] == "--rm" && id.empty();  // an empty --name is none
        if (no_name) continue;
        Ran ran = tests::runner(command);
        CHECK(ran.code != 0);
        CHECK(ran.out == "");
        bool reason = ran.err.find("id ") != std::string::npos || ran.err.find("flag") != std::string::npos ||
                      ran.err.find("missing") != std::string::npos ||
                      ran.err.find("may not begin") != std::string::npos ||
                      ran.err.find("argument") != std::string::npos;
        CHECK_MESSAGE(reason, ran.err);
        CHECK(ran.err.size() < 600);
      }
    }
    CHECK(listing(root) == before);
    CHECK(listing(tests::run_root()).find("..") == std::string::npos);
  }

  TEST_CASE("a tree too deep for descriptors and stack is removed all the same") {
    std::string id = tests::fresh_id();
    Ran ran = tests::run(
        concat({"bash", "-c", "ulimit -Sn 256; exec \"$@\"", "bash", tests::runner_path(), "--root", tests::run_root()},
               session({"--name", id, "--output", "raw"}, {"/attack", "nest", "1200"})));
    CHECK(ran.out == "nested=all\n");
    CHECK(ran.code == 0);
    CHECK(ran.err == "");
    CHECK(remains_of(id) == "");
  }

  // The session's user is the owner of a workspace: of root's it makes files of root's, which somebody else on the host may run.
  TEST_CASE("no program that runs as its owner or group can be made in a workspace") {
    SKIP_UNLESS(tests::is_root(), "root");
    auto made = [](const std::string& folder) {
      int count = 0;
      for (const auto& entry : fs::directory_iterator(folder)) {
        struct stat info;
        if (::stat(entry.path().c_str(), &info) == 0 && (info.st_mode & 06000)) ++count;
      }
      return count;
    };
    for (const char* user : {"agent", "root"}) {
      Folder workspace;
      Facts facts = inside({"-u", user, "-v", workspace.path() + ":/workspace"}, {"set-id", "/workspace"});
      CHECK(facts.values.size() == 28);
      for (const auto& [way, answer] : facts.values) {
        CAPTURE(way);
        CHECK(answer == (way.find("openat2") == std::string::npos ? "EPERM" : "ENOSYS"));
      }
      CHECK(made(workspace.path()) == 0);
    }
    Folder control;
    outside({"set-id", control.path()});
    CHECK(made(control.path()) >= 24);
  }
}
