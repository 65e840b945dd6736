// The policy is the most that a session may have; and what looks without starting: plan, policy, check.
#include <doctest/doctest.h>

#include "tests/kernel/live.h"

using namespace tests;
using nlohmann::json;

namespace {

bool has(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

}  // namespace

TEST_SUITE("session policy") {
  TEST_CASE("what the policy does not allow is refused by name, with status 125 and no trace") {
    SKIP_UNLESS(is_root(), "root");
    Folder folder;
    folder.write("data/file", "x");
    struct {
      Args flags;
      const char* says;
    } cases[] = {
        {{"-m", "100G"}, "--memory"},
        {{"--cpus", "64"}, "--cpus"},
        {{"--pids-limit", "100000"}, "--pids-limit"},
        {{"--timeout", "48h"}, "--timeout"},
        {{"-v", folder / "data:/data"}, "may not be writable"},
        {{"-v", "/etc:/x:ro"}, "/etc of the host may not be shown"},
        {{"-v", "/:/x:ro"}, "may not be shown"},
        {{"-v", "/etc/../etc/passwd:/x:ro"}, "may not be shown"},
        {{"-v", "/proc/1/root/etc:/x:ro"}, "may not be shown"},
        {{"-v", "/root:/x:ro"}, "/root"},
        {{"-v", "/var/lib:/x:ro"}, "/var/lib"},
        {{"-v", "/no/such/place:/x:ro"}, "/no/such/place"},
        {{"-v", folder / "data:/proc/x:ro"}, "/proc"},
        {{"-v", folder / "data:/:ro"}, "--rootfs"},
        {{"-v", folder / "data:/a/../b:ro"}, "'..'"},
        {{"-v", "nothing"}, "HOST:INSIDE"},
        {{"--cap-add", "SYS_ADMIN"}, "does not allow"},
        {{"--cap-add", "NONSENSE"}, "unknown capability"},
        {{"--network", "host"}, "network"},
        {{"--network", "egress"}, "egress"},
        {{"--security-opt", "seccomp=unconfined"}, "filter"},
        {{"--security-opt", "apparmor=x"}, "seccomp=FILE"},
        {{"--user", "0x0"}, "--user"},
        {{"--user", "70000"}, "--user"},
        {{"-m", "lots"}, "--memory"},
        {{"-m", "1K"}, "too small"},
        {{"--timeout", "-1s"}, "--timeout"},
        {{"--pids-limit", "0"}, "--pids-limit"},
        {{"--hostname", std::string(80, 'h')}, "--hostname"},
        {{"--policy", "no-such-policy"}, "no-such-policy"},
        {{"--rootfs", "/no/such/rootfs"}, "/no/such/rootfs"},
        {{"--output", "xml"}, "xml"},
        {{"--no-such-flag"}, "--no-such-flag"},
        {{"--env-file", "/no/such/env"}, "/no/such/env"},
        {{"stray"}, "stray"},
    };
    for (const auto& c : cases) {
      std::string id = fresh_id();
      Args flags{"--rm"};
      flags.insert(flags.end(), c.flags.begin(), c.flags.end());
      CAPTURE(c.says);
      Ran ran = runner(session_arguments(id, flags, {"true"}));
      CHECK(ran.code == 125);
      CHECK(ran.out == "");
      CHECK_MESSAGE(has(ran.err, c.says), ran.err);
      CHECK(remains_of(id) == "");
    }
  }

  TEST_CASE("everything that is wrong is said at once") {
    Ran ran = runner({"run", "--rm", "-m", "lots", "--cpus", "many", "--tmpfs", "x", "--", "true"});
    CHECK(ran.code == 125);
    for (const char* flag : {"--memory", "--cpus", "--tmpfs"}) CHECK(has(ran.err, flag));
  }

  TEST_CASE("a policy's own limits, environment and rlimits hold in the session") {
    SKIP_UNLESS(is_root(), "root");
    Folder folder;
    folder.write("own.yaml", "version: 1\nextends: default\nrlimits: {nofile: 40}\nenvironment: {FIXED: policy}\nuser: root\nhostname: named\n");
    Session s = session({"--policy", folder / "own.yaml", "-e", "FIXED=caller"}, {"/probe", "rlimits,env,status,hostname"});
    INFO(s.ran.err);
    CHECK(s.facts["nofile"] == "40:40");
    CHECK(s.facts["FIXED"] == "policy");
    CHECK(s.facts["Uid"] == "0 0 0 0");
    CHECK(s.facts["hostname"] == "named");
    CHECK(s.events[0]["data"]["policy"].get<std::string>().find("own") != std::string::npos);
  }

  TEST_CASE("plan prints the decision and starts nothing") {
    SKIP_UNLESS(is_root(), "root");
    Folder folder;
    folder.write("w/file", "x");
    std::string id = fresh_id();
    Ran ran = runner({"plan", "--name", id, "-m", "64M", "-v", folder / "w:/workspace", "--", "sh", "-c", "touch /workspace/ran"});
    CHECK(ran.code == 0);
    json plan = json::parse(ran.out);
    CHECK(plan["id"] == id);
    CHECK(plan["policy"] == "default");
    CHECK(plan["process"]["argv"] == json({"sh", "-c", "touch /workspace/ran"}));
    CHECK(plan["process"]["capabilities"].empty());
    CHECK(plan["cgroup"]["limits"]["memory"] == 64 << 20);
    CHECK(plan["namespaces"].size() == 7);
    CHECK(!exists(folder / "w/ran"));
    CHECK(remains_of(id) == "");
    CHECK(runner({"plan", "-m", "100G", "--", "true"}).code != 0);
  }

  TEST_CASE("policy list, check and explain") {
    Ran list = runner({"policy", "list"});
    for (const char* name : {"default\n", "quickstart\n", "strict\n"}) CHECK(has(list.out, name));
    for (const char* name : {"default", "quickstart", "strict"}) {
      CHECK(runner({"policy", "check", name}).code == 0);
      Ran explained = runner({"policy", "explain", name});
      CHECK(explained.code == 0);
      CHECK(has(explained.out, "limits.memory"));
      CHECK(has(explained.out, ".yaml:"));  // from which line
    }
    Folder folder;
    folder.write("bad.yaml", "version: 1\nextends: default\nlimits:\n  memory: lots\n  memroy: 1G\nsurprise: true\n");
    Ran bad = runner({"policy", "check", folder / "bad.yaml"});
    CHECK(bad.code == 1);
    CHECK(has(bad.err, "bad.yaml:4:"));
    CHECK(has(bad.err, "bad.yaml:5:"));
    CHECK(has(bad.err, "bad.yaml:6:"));
  }

  TEST_CASE("sections whose enforcement is not built are refused by name") {
    Folder folder;
    for (const char* section : {"egress:\n  - {host: example.org, mode: tunnel}\n", "watch:\n  - {syscalls: [bpf], action: deny}\n"}) {
      folder.write("p.yaml", std::string("version: 1\nextends: default\n") + section);
      Ran ran = runner({"policy", "check", folder / "p.yaml"});
      CHECK(ran.code == 1);
      CHECK_MESSAGE(has(ran.err, std::string(section).substr(0, 4)), ran.err);
    }
  }

  TEST_CASE("check says what this host can do, with a remedy for what it lacks") {
    Ran ran = runner({"check"});
    CHECK((ran.code == 0 || ran.code == 1));
    CHECK(has(ran.out, "kernel"));
    json findings = json::parse(runner({"check", "--json"}).out);
    bool seccomp = false;
    for (const json& f : findings) {
      seccomp |= f["subject"] == "seccomp" && f["ok"] == true;
      if (f["ok"] == false) CHECK(f["remedy"].get<std::string>().size() > 5);
    }
    CHECK(seccomp);
  }
}
