// What the code inside a session has and sees by default, and that `exec` gives no more.
#include <doctest/doctest.h>
#include <unistd.h>

#include <filesystem>

#include "tests/kernel/live.h"

using namespace tests;
using nlohmann::json;

namespace {

bool has(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

}  // namespace

TEST_SUITE("session walls") {
  TEST_CASE("no capability in any set, securebits locked, no_new_privs, two filters, no descriptor, no signal ignored") {
    SKIP_UNLESS(is_root(), "root");
    Args argv{"sh", "-c", "trap '' USR1 TERM; exec 3</etc 4</etc/passwd 7</root; exec \"$@\"", "sh"};
    Args whole = runner_argv(session_arguments(fresh_id(), {"--rm", "--output", "raw"}, {"/probe", "status,securebits,fds,signals,process,rlimits"}));
    argv.insert(argv.end(), whole.begin(), whole.end());
    Facts facts = facts_of(run(argv).out);
    CHECK(facts["Uid"] == "1000 1000 1000 1000");
    CHECK(facts["Gid"] == "1000 1000 1000 1000");
    CHECK(facts["Groups"] == "");
    for (const char* set : {"CapPrm", "CapEff", "CapBnd", "CapInh", "CapAmb"}) CHECK(facts[set] == "0000000000000000");
    CHECK(facts["securebits"] == "0xef");
    CHECK(facts["NoNewPrivs"] == "1");
    CHECK(facts["Seccomp"] == "2");
    CHECK(facts["Seccomp_filters"] == "2");
    for (int fd = 0; fd < 16; ++fd) CHECK(facts.count(std::to_string(fd)) == (fd < 3));
    CHECK(facts["SigIgn"] == "0000000000000000");
    CHECK(facts["SigBlk"] == "0000000000000000");
    CHECK(facts["ppid"] == "1");
    CHECK(facts["core"] == "0:0");
    CHECK(facts["nofile"] == "1024:4096");
    CHECK(facts["msgqueue"] == "0:0");
  }

  TEST_CASE("every namespace but time is the session's own") {
    SKIP_UNLESS(is_root(), "root");
    Session s = probe({"namespaces"});
    for (const char* kind : {"cgroup", "ipc", "mnt", "net", "pid", "user", "uts"}) {
      char ours[64] = {};
      REQUIRE(::readlink((std::string("/proc/self/ns/") + kind).c_str(), ours, sizeof ours - 1) > 0);
      CHECK(s.facts[kind] != ours);
      CHECK(has(s.facts[kind], ":["));
    }
  }

  TEST_CASE("the host view shows the system's programs and nothing that is somebody's") {
    SKIP_UNLESS(is_root(), "root");
    Folder secret;
    secret.write("readable", "by everybody");
    Session s = session({}, {"sh", "-c", "ls -A / /home /root /var /opt /run /tmp | tr '\\n' ' '; echo; /probe open r /usr/bin/env /bin/sh /etc/passwd /etc/shadow /etc/ssh "
                                         "/var/lib /var/log /root /srv /boot /sys /mnt /work /var/run /run/runner " + (secret / "readable")});
    for (const char* there : {"/usr/bin/env", "/bin/sh", "/etc/passwd"}) CHECK(s.facts[there] == "0");
    for (const std::string& gone : {std::string("/etc/shadow"), std::string("/etc/ssh"), std::string("/var/lib"), std::string("/var/log"), std::string("/srv"),
                                    std::string("/boot"), std::string("/sys"), std::string("/mnt"), std::string("/work"), secret / "readable"})
      CHECK_MESSAGE(s.facts[gone] == "ENOENT", gone);
    CHECK(s.facts["/root"] == "EACCES");
    // /home has the agent's own folder, and the rest are empty.
    Session homes = session({"-u", "root"}, {"sh", "-c", "ls -A /home; ls -A /root /opt /run /tmp | grep -v '^/' | tr -d '\\n'; cat /etc/passwd"});
    CHECK(homes.out.rfind("agent\n", 0) == 0);
    CHECK(!has(homes.out, "sshd"));
    CHECK(has(homes.out, "agent:x:1000:1000"));
  }

  TEST_CASE("the kernel's switches and the masked files of /proc cannot be read or written, and other users' processes are hidden") {
    SKIP_UNLESS(is_root(), "root");
    Session s = session({"-u", "root"}, {"sh", "-c", "/probe open w /proc/sys/kernel/core_pattern /proc/sys/kernel/hostname /dev/new /proc/self/oom_score_adj;"
                                                     "cat /proc/kallsyms /proc/keys /proc/timer_list /proc/interrupts | wc -c; /probe stat /dev/sda /dev/kmsg /dev/mem /dev/kvm"});
    for (const char* path : {"/proc/sys/kernel/core_pattern", "/proc/sys/kernel/hostname"}) CHECK((s.facts[path] == "EROFS" || s.facts[path] == "EACCES"));
    CHECK(has(s.out, "\n0\n"));
    for (const char* path : {"/dev/sda", "/dev/kmsg", "/dev/mem", "/dev/kvm"}) CHECK(s.facts[path] == "ENOENT");
    Session hidden = session({}, {"sh", "-c", "ls /proc | grep '^[0-9]' | tr '\\n' ' '; echo; /probe open r /proc/1/status"});
    CHECK(hidden.facts["/proc/1/status"] == "ENOENT");
  }

  TEST_CASE("signals to everything reach nothing but the session's own") {
    SKIP_UNLESS(is_root(), "root");
    Session s = probe({"signals-everything"});
    CHECK(s.result() == "success");
    CHECK(s.facts["kill-1"] == "EPERM");
    CHECK(s.facts["parent"] == "EPERM");
    Session root = session({"-u", "root"}, {"/probe", "signals-everything"});
    CHECK((root.result() == "success" || root.result() == "signal"));
    CHECK(remains_of(root.id) == "");
  }

  TEST_CASE("a rootfs directory is the lower layer: what is written inside is not written there") {
    SKIP_UNLESS(is_root(), "root");
    Rootfs folder;
    folder.write("rootfs/etc/keep", "as it was");
    auto listing = [&] { return run({"find", folder.rootfs(), "-printf", "%p %m %U %G %s %T@\\n"}).out; };
    std::string before = listing();
    Session s = session({"--rootfs", folder.rootfs(), "-u", "root"},
                        {"sh", "-c", "probe write /new x; probe write /etc/keep y; rm /bin/ls; probe stat /bin/busybox /workspace; probe read /etc/hostname; probe cwd"});
    CHECK(s.result() == "success");
    CHECK(s.facts["/new"] == "0");
    CHECK(s.facts["/etc/keep"] == "0");
    CHECK(has(s.facts["/bin/busybox"], "uid=0 gid=0"));
    CHECK(s.facts["/etc/hostname"] == s.id);
    CHECK(s.facts["cwd"] == "/workspace");
    CHECK(listing() == before);
    CHECK(read(folder / "rootfs/etc/keep") == "as it was");
  }

  TEST_CASE("exec into a session has the same walls as its program") {
    SKIP_UNLESS(is_root(), "root");
    Box box;
    Live live(runner_argv(session_arguments(box.id, {"-e", "A=b"}, {"sh", "-c", "/probe status,securebits,namespaces,cwd,env; /probe sleep 60"})));
    REQUIRE(live.await("ready="));
    Facts first = facts_of(stdio_text([&] {
      Events whole;  // the lines so far
      std::istringstream lines(live.out);
      for (std::string line; std::getline(lines, line);) whole.push_back(json::parse(line));
      return whole;
    }()));
    Args argv{"sh", "-c", "exec 3</etc 4</root; exec \"$@\"", "sh"};
    Args whole = runner_argv({"exec", box.id, "/probe", "status,securebits,namespaces,cwd,env,fds,signals"});
    argv.insert(argv.end(), whole.begin(), whole.end());
    Ran ran = run(argv);
    CHECK(ran.code == 0);
    CHECK(ran.err == "");
    Facts second = facts_of(ran.out);
    for (const char* key : {"Uid", "Gid", "Groups", "CapPrm", "CapEff", "CapBnd", "CapInh", "CapAmb", "NoNewPrivs", "Seccomp", "Seccomp_filters", "securebits", "cgroup",
                            "ipc", "mnt", "net", "pid", "user", "uts", "cwd", "A", "PATH", "HOME"})
      CHECK_MESSAGE(second[key] == first[key], key);
    for (int fd = 0; fd < 16; ++fd) CHECK(second.count(std::to_string(fd)) == (fd < 3));
    CHECK(second["SigIgn"] == "0000000000000000");
    CHECK(runner({"exec", box.id, "sh", "-c", "exit 9"}).code == 9);
    CHECK(runner({"exec", box.id, "sh", "-c", "kill -KILL $$"}).code == 137);
    CHECK(runner({"exec", box.id, "no-such"}).code == 127);
    CHECK(runner({"exec", box.id, "/etc/passwd"}).code == 126);
    CHECK(runner({"exec", box.id, "cat"}, {.input = "typed"}).out == "typed");
    CHECK(runner({"exec", "--cap", "CAP_SYS_ADMIN", box.id, "true"}).code != 0);
  }
}
