// What a program in a session can reach, take or become: in the host view and in a root file system, as the agent and as root.
// The control of each is the same attempt on the host, as root.
#include <doctest/doctest.h>
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/security/support.h"

using namespace security;

namespace {

struct Kind {
  std::string name;
  Args flags;
};

// Each of the walls is tried in all of them.
std::vector<Kind> kinds(const tests::Rootfs& rootfs) {
  return {{"host view, agent", {}},
          {"host view, root", {"-u", "root"}},
          {"rootfs, agent", {"--rootfs", rootfs.rootfs()}},
          {"rootfs, root", {"--rootfs", rootfs.rootfs(), "-u", "root"}}};
}

// Which of these it is depends on the kernel's configuration and on the order of its checks.
void expect_hidden(const Facts& facts, const Args& paths) {
  for (const std::string& path : paths) {
    CAPTURE(path);
    std::string seen = facts[path];
    bool hidden = seen == "empty" || seen == "ENOENT" || seen == "EACCES";
    CHECK_MESSAGE(hidden, seen);
  }
}

}  // namespace

TEST_SUITE("walls") {
  TEST_CASE("no namespace, mount or other root can be had") {
    tests::Rootfs rootfs;
    std::map<std::string, std::string> wanted;
    for (const char* key :
         {"unshare-user", "unshare-mount", "setns", "mount-tmpfs", "mount-proc", "mount-cgroup", "mount-cgroup2",
          "bind-root", "remount-dev", "umount-proc", "fsopen", "open-tree", "chroot"})
      wanted[key] = "EPERM";
    for (const Kind& kind : kinds(rootfs)) {
      CAPTURE(kind.name);
      expect(inside(kind.flags, {"mounts"}), wanted);
    }
    SKIP_UNLESS(tests::is_root(), "root for the control");
    Facts control = outside({"mounts"});
    for (const auto& [key, value] : wanted)
      if (key != "mount-cgroup") CHECK(control[key] == "0");  // a pure v2 host has no v1 hierarchy to mount
  }

  TEST_CASE("above the root there is the root, by every way to it") {
    tests::Rootfs rootfs;
    for (const Kind& kind : kinds(rootfs)) {
      CAPTURE(kind.name);
      auto facts = inside(kind.flags, {"above"});
      CHECK(facts["/.."] == facts["/"]);
      CHECK(facts["/etc/../.."] == facts["/"]);
      CHECK(facts["/proc/self/root/.."] == facts["/"]);
      CHECK(facts["/proc/self/cwd/../../.."] == facts["/"]);
    }
  }

  TEST_CASE("no capability is there, and none can be regained; ids cannot be changed") {
    tests::Rootfs rootfs;
    ::chmod((rootfs.rootfs() + "/tmp").c_str(), 01777);
    for (const Kind& kind : kinds(rootfs)) {
      CAPTURE(kind.name);
      Facts facts = inside(kind.flags, {"rights"});
      for (const char* set : {"CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"})
        CHECK(facts[set] == "0000000000000000");
      expect(facts, {{"NoNewPrivs", "1"},
                     {"Seccomp", "2"},
                     {"Seccomp_filters", "2"},
                     {"securebits", "239"},
                     {"groups", "0"},
                     {"capset", "EPERM"},
                     {"ambient", "EPERM"},
                     {"set-securebits", "EPERM"},
                     {"keepcaps", "EPERM"},
                     {"setuid-other", "EPERM"},
                     {"setgroups", "EPERM"},
                     {"chown", "EPERM"},
                     {"drop-no-new-privs", "EINVAL"},
                     {"sethostname", "EPERM"},
                     {"nice", "EACCES"}});
    }
    SKIP_UNLESS(tests::is_root(), "root for the control");
    expect(outside({"rights"}), {{"capset", "0"},
                                 {"set-securebits", "0"},
                                 {"keepcaps", "0"},
                                 {"setuid-other", "0"},
                                 {"setgroups", "0"},
                                 {"chown", "0"},
                                 {"sethostname", "0"},
                                 {"nice", "0"},
                                 {"NoNewPrivs", "0"}});
  }

  TEST_CASE("a set-user-ID program of the image gives nothing") {
    SKIP_UNLESS(tests::is_root(), "root");
    tests::Rootfs rootfs;
    std::string program = rootfs.rootfs() + "/bin/probe";
    REQUIRE(::chmod(program.c_str(), 06755) == 0);
    Ran ran =
        tests::runner({"run", "--rm", "--output", "raw", "--rootfs", rootfs.rootfs(), "--", "/bin/probe", "rights"});
    CHECK(facts_of(ran)["euid"] == "1000");
    CHECK(facts_of(ran)["CapEff"] == "0000000000000000");
    Facts control = facts_of(tests::run({"chroot", "--userspec=1000:1000", rootfs.rootfs(), "/bin/probe", "rights"}));
    CHECK(control["euid"] == "0");
  }

  TEST_CASE("other processes cannot be traced, read or entered; those of the host cannot be signalled") {
    tests::Rootfs rootfs;
    Background bystander({"sleep", "60"});
    std::string kill = "kill-" + std::to_string(bystander.pid());
    std::map<std::string, std::string> wanted{{"traceme", "EPERM"},  {"seize", "EPERM"}, {"vm-read", "EPERM"},
                                              {"vm-write", "EPERM"}, {"getfd", "EPERM"}, {"kcmp", "EPERM"}};
    for (const Kind& kind : kinds(rootfs)) {
      CAPTURE(kind.name);
      Facts facts = inside(kind.flags, {"processes", std::to_string(bystander.pid())});
      expect(facts, wanted);
      CHECK(facts[kill] == "ESRCH");
    }
    Facts control = outside({"processes", std::to_string(bystander.pid())});
    for (const auto& [key, value] : wanted) CHECK(control[key] == "0");
    CHECK(control[kill] == "0");
  }

  TEST_CASE("PID 1 of the session is hidden and survives everything") {
    tests::Rootfs rootfs;
    for (const Kind& kind : kinds(rootfs)) {
      CAPTURE(kind.name);
      Facts facts = inside(kind.flags, {"init"});
      for (const char* key : {"mem", "environ", "maps", "root", "cwd", "exe", "fd", "ns/mnt"})
        CHECK(facts[key] == "ENOENT");
      CHECK(facts["attach"] == "EPERM");
      CHECK(facts.ran.code == 0);  // it lives on after kill(1, SIGKILL)
    }
    SKIP_UNLESS(tests::is_root(), "root for the control");
    Facts control = outside_behind({"unshare", "--pid", "--fork", "--mount-proc", "sh", "-c", "\"$0\" init; true"}, {});
    for (const char* key : {"mem", "environ", "root", "exe", "attach"}) CHECK(control[key] == "0");
  }

  TEST_CASE("/proc: what tells of the host is masked, and nothing can be written") {
    tests::Rootfs rootfs;
    const Args secrets{"/proc/kcore",        "/proc/kallsyms",   "/proc/kmsg",     "/proc/modules",
                       "/proc/keys",         "/proc/timer_list", "/proc/slabinfo", "/proc/vmallocinfo",
                       "/proc/pagetypeinfo", "/proc/interrupts", "/sys/kernel",    "/sys/fs/cgroup"};
    const Args switches{"/proc/sysrq-trigger",         "/proc/sys/kernel/core_pattern", "/proc/sys/kernel/hostname",
                        "/proc/sys/vm/drop_caches",    "/proc/sys/net/ipv4/ip_forward", "/proc/irq/0/smp_affinity",
                        "/proc/sys/kernel/ns_last_pid"};
    for (const Kind& kind : kinds(rootfs)) {
      CAPTURE(kind.name);
      expect_hidden(inside(kind.flags, concat({"read"}, secrets)), secrets);
      expect_shut(inside(kind.flags, concat({"write"}, switches)), switches);
    }
    // Each by two walls: the owner is nobody in there, and the mount is read-only.
    Ran mounts = tests::runner(session({"--output", "raw"}, {"cat", "/proc/self/mountinfo"}));
    CHECK(mounts.out.find(" /sys /proc/sys ro,") != std::string::npos);
    CHECK(mounts.out.find(" /null /proc/kallsyms ro,nosuid") != std::string::npos);
    SKIP_UNLESS(tests::is_root(), "root for the control");
    expect(outside({"write", "/proc/sys/kernel/core_pattern", "/proc/sys/vm/drop_caches"}),
           {{"/proc/sys/kernel/core_pattern", "0"}, {"/proc/sys/vm/drop_caches", "0"}});
    expect(outside({"read", "/proc/kallsyms", "/proc/interrupts", "/sys/kernel/uevent_seqnum"}),
           {{"/proc/kallsyms", "0"}, {"/proc/interrupts", "0"}});
  }

  TEST_CASE("/dev holds six nodes and the terminals, and nothing can be added") {
    tests::Rootfs rootfs;
    ::chmod((rootfs.rootfs() + "/tmp").c_str(), 01777);
    for (const Kind& kind : kinds(rootfs)) {
      CAPTURE(kind.name);
      expect(inside(kind.flags, {"devices"}),
             {{"dev", "fd full null ptmx pts random shm stderr stdin stdout tty urandom zero"},
              {"mknod-char", "EPERM"},
              {"mknod-block", "EPERM"},
              {"create-in-dev", "EROFS"}});
    }
    SKIP_UNLESS(tests::is_root(), "root for the control");
    expect(outside({"devices"}), {{"mknod-char", "0"}, {"mknod-block", "0"}, {"create-in-dev", "0"}});
  }
}
