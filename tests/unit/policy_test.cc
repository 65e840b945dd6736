// Policies: what a file may say, what it may not, and that every mistake is named with its place.
#include "runner/config/policy.h"

#include <doctest/doctest.h>
#include <stdlib.h>

#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

using namespace runner;

namespace fs = std::filesystem;

namespace {

using Lines = std::vector<std::string>;

// What is said about a policy of these lines below "version: 1".
Lines complaints(const std::string& text) {
  Diagnostics wrong;
  auto policy = parse_policy_text("agent.yaml", "version: 1\n" + text, wrong);
  CHECK(policy.has_value() == wrong.empty());
  return wrong.entries();
}

std::string complaint(const std::string& text) {
  Lines all = complaints(text);
  CHECK_MESSAGE(all.size() <= 1, all.back());
  return all.empty() ? "" : all.front();
}

Policy policy_of(const std::string& text) {
  Diagnostics wrong;
  auto policy = parse_policy_text("agent.yaml", "version: 1\n" + text, wrong);
  REQUIRE_MESSAGE(policy, wrong.text());
  return *policy;
}

// A folder of policies that is gone when the test is.
class Folder {
 public:
  Folder() {
    std::string name = (fs::temp_directory_path() / "policy-test-XXXXXX").string();
    REQUIRE(::mkdtemp(name.data()));
    path_ = name;
  }
  ~Folder() { fs::remove_all(path_); }

  const Folder& write(const std::string& name, const std::string& text) const {
    fs::create_directories(fs::path(path_ + "/" + name).parent_path());
    std::ofstream(path_ + "/" + name) << text;
    return *this;
  }
  std::optional<Policy> load(const std::string& name, Diagnostics& wrong) const {
    return load_policy(name, {path_}, wrong);
  }
  Lines load_complaints(const std::string& name) const {
    Diagnostics wrong;
    CHECK(!load(name, wrong));
    return wrong.entries();
  }
  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

std::string shipped_folder() {
  const char* root = ::getenv("RUNNER_SOURCE_ROOT");
  return std::string(root ? root : ".") + "/policies";
}

Policy shipped(const std::string& name) {
  Diagnostics wrong;
  auto policy = load_policy(name, {shipped_folder()}, wrong);
  REQUIRE_MESSAGE(policy, wrong.text());
  return *policy;
}

}  // namespace

// ---- values --------------------------------------------------------------------------------------------------------

TEST_CASE("every key of a policy reaches its field") {
  Policy policy = policy_of(
      "description: a test\n"
      "rootfs: {view: host, expose: [/opt/tools, /srv//data/]}\n"
      "user: 1234:2345\n"
      "workspace: {path: /work, snapshot: copy}\n"
      "binds: {writable: [/work, /cache], forbid_sources: [/etc]}\n"
      "limits: {memory: 512MiB, cpus: 1.5, pids: 64, wall: 5m, output: 1M}\n"
      "on_missing: warn\n"
      "capabilities: [NET_BIND_SERVICE, cap_chown]\n"
      "seccomp: {profile: [agent, /etc/x.json]}\n"
      "environment: {LANG: C.UTF-8, EMPTY: \"\"}\n"
      "rlimits: {nofile: 1024:4096, core: 0, memlock: 64K, nproc: unlimited}\n"
      "hostname: box-1\n");
  CHECK(policy.name == "agent");
  CHECK(policy.description == "a test");
  CHECK(policy.rootfs.view == Policy::View::Host);
  CHECK(policy.rootfs.expose == Lines{"/opt/tools", "/srv/data"});
  CHECK(policy.user.uid == 1234);
  CHECK(policy.user.gid == 2345);
  CHECK(policy.workspace.path == "/work");
  CHECK(policy.workspace.snapshot == Policy::Kept::Copy);
  CHECK(policy.binds.writable == Lines{"/work", "/cache"});
  CHECK(policy.binds.forbid_sources == Lines{"/etc"});
  CHECK(policy.limits.memory == 512u << 20);
  CHECK(policy.limits.cpus == 1500);
  CHECK(policy.limits.pids == 64);
  CHECK(policy.limits.wall == 300'000);
  CHECK(policy.limits.output == 1u << 20);
  CHECK(policy.on_missing == Policy::Missing::Warn);
  CHECK(policy.capabilities == Lines{"CAP_NET_BIND_SERVICE", "CAP_CHOWN"});
  CHECK(policy.seccomp == Lines{"agent", "/etc/x.json"});
  CHECK(policy.environment == std::map<std::string, std::string>{{"LANG", "C.UTF-8"}, {"EMPTY", ""}});
  CHECK(policy.rlimits.at("nofile") == Policy::Rlimit{1024, 4096});
  CHECK(policy.rlimits.at("core") == Policy::Rlimit{0, 0});
  CHECK(policy.rlimits.at("memlock") == Policy::Rlimit{65536, 65536});
  CHECK(policy.rlimits.at("nproc") == Policy::Rlimit{Policy::kUnlimited, Policy::kUnlimited});
  CHECK(policy.hostname == "box-1");
}

TEST_CASE("a policy that says nothing is closed") {
  Policy policy = policy_of("");
  CHECK(policy.rootfs.view == Policy::View::None);
  CHECK(policy.rootfs.expose.empty());
  CHECK(policy.user.uid == 1000);
  CHECK(policy.binds.writable.empty());
  CHECK(policy.on_missing == Policy::Missing::Error);
  CHECK(policy.capabilities.empty());
  CHECK(policy.seccomp == Lines{"agent", "agent-arguments"});
}

TEST_CASE("agent and root are names for the ids that everybody gives them") {
  CHECK(policy_of("user: agent").user.uid == 1000);
  CHECK(policy_of("user: root").user.gid == 0);
  CHECK(policy_of("user: 0:0").user.name == "");
}

TEST_CASE("seccomp takes one profile, several, or explicitly none") {
  CHECK(policy_of("seccomp: {profile: agent}").seccomp == Lines{"agent"});
  CHECK(policy_of("seccomp: [agent, mine]").seccomp == Lines{"agent", "mine"});
  CHECK(policy_of("seccomp: {profile: []}").seccomp.empty());
  CHECK(complaint("seccomp: {profile: }") ==
        "agent.yaml:2:11: a seccomp profile must be a list such as [agent, agent-arguments], not nothing");
  CHECK(complaint("seccomp: {profiles: agent}") ==
        "agent.yaml:2:11: unknown key 'profiles' in seccomp, did you mean 'profile'?");
}

// ---- mistakes ------------------------------------------------------------------------------------------------------

TEST_CASE("an unknown key is an error, and the nearest known key is suggested") {
  CHECK(complaint("limit: {memory: 2G}") == "agent.yaml:2:1: unknown key 'limit', did you mean 'limits'?");
  CHECK(complaint("limits: {memroy: 2G}") == "agent.yaml:2:10: unknown key 'memroy' in limits, did you mean 'memory'?");
  CHECK(complaint("banana: 1") == "agent.yaml:2:1: unknown key 'banana'");
  CHECK(complaint("limits.memory: 2G") == "agent.yaml:2:1: unknown key 'limits.memory'");
  CHECK(complaint("<<: {}") == "agent.yaml:2:1: unknown key '<<'");
}

TEST_CASE("a known key in the wrong place is told where it belongs") {
  CHECK(complaint("memory: 2G") == "agent.yaml:2:1: unknown key 'memory'; it belongs in 'limits'");
  CHECK(complaint("limits: {on_missing: warn}") ==
        "agent.yaml:2:10: unknown key 'on_missing' in limits; it belongs at the top of the file");
}

TEST_CASE("a value of the wrong type is told what it should be") {
  CHECK(complaint("limits: 5") ==
        "agent.yaml:2:9: limits must be a mapping (of memory, cpus, pids, disk, wall, output), not '5'");
  CHECK(complaint("limits:") ==
        "agent.yaml:2:1: limits must be a mapping (of memory, cpus, pids, disk, wall, output), not nothing");
  CHECK(complaint("limits: {memory: [2G]}") == "agent.yaml:2:18: memory must be a size such as 512MiB, not a list");
  CHECK(complaint("limits: {memory: lots}") == "agent.yaml:2:18: memory must be a size such as 512MiB, not 'lots'");
  CHECK(complaint("capabilities: NET_RAW") ==
        "agent.yaml:2:15: capabilities must be a list such as [NET_BIND_SERVICE], or [] for none, not 'NET_RAW'");
  CHECK(complaint("capabilities: [[NET_RAW]]") == "agent.yaml:2:16: capabilities must hold text only, not a list");
  CHECK(complaint("user: {uid: 5}") ==
        "agent.yaml:2:7: user must be agent, root or UID:GID such as 1000:1000, not a mapping");
  CHECK(complaint("description: [a]") == "agent.yaml:2:14: description must be text, not a list");
  CHECK(complaint("environment: [A]") ==
        "agent.yaml:2:14: environment must be a mapping such as {LANG: C.UTF-8}, not a list");
  CHECK(complaint("environment: {A: }") ==
        "agent.yaml:2:15: variable A must be text (\"\" for an empty one), not nothing");
  CHECK(complaint("rlimits: 5") == "agent.yaml:2:10: rlimits must be a mapping such as {core: 0}, not '5'");
}

TEST_CASE("a value out of range is told the range") {
  CHECK(complaint("limits: {memory: 1M}") ==
        "agent.yaml:2:18: memory 1M is too small to start anything; the least is 4M");
  CHECK(complaint("limits: {memory: 4M}") == "");
  CHECK(complaint("limits: {memory: 1025T}") == "agent.yaml:2:18: memory 1025T is too large; the most is 1024T");
  CHECK(complaint("limits: {pids: 0}") == "agent.yaml:2:16: pids must be a whole number from 1 to 4194304, not '0'");
  CHECK(complaint("limits: {pids: 4194304}") == "");
  CHECK(complaint("limits: {pids: 4194305}") ==
        "agent.yaml:2:16: pids must be a whole number from 1 to 4194304, not '4194305'");
  CHECK(complaint("limits: {pids: 0x40}") ==
        "agent.yaml:2:16: pids must be a whole number from 1 to 4194304, not '0x40'");
  CHECK(complaint("limits: {cpus: 0}") == "agent.yaml:2:16: cpus must be a number above 0 such as 1.5, not '0'");
  CHECK(complaint("limits: {cpus: 1024}") == "");
  CHECK(complaint("limits: {cpus: 1024.001}") == "agent.yaml:2:16: cpus 1024.001 is too many; the most is 1024");
  CHECK(complaint("limits: {wall: 0s}") == "agent.yaml:2:16: wall must be a time such as 30s, 5m or 2h, not '0s'");
  CHECK(complaint("limits: {wall: 720h}") == "");
  CHECK(complaint("limits: {wall: 721h}") == "agent.yaml:2:16: wall 721h is too long; the most is 720h (30 days)");
  CHECK(complaint("limits: {output: 1}") == "agent.yaml:2:18: output 1 is out of range; it is 1K to 1T");
  CHECK(complaint("user: 65535:65535") == "");
  CHECK(complaint("user: 65536:0") == "agent.yaml:2:7: user 65536:0 is out of range; ids inside are 0 to 65535");
  CHECK(complaint("user: 1000") == "agent.yaml:2:7: user must be agent, root or UID:GID such as 1000:1000, not '1000'");
}

TEST_CASE("a path must name a place, not a way to it") {
  CHECK(complaint("rootfs: {expose: [tools]}") ==
        "agent.yaml:2:19: expose must be an absolute path without '.' and '..', not 'tools'");
  CHECK(complaint("rootfs: {expose: [/opt/../etc]}") ==
        "agent.yaml:2:19: expose must be an absolute path without '.' and '..', not '/opt/../etc'");
  CHECK(complaint("rootfs: {expose: [/]}") == "agent.yaml:2:19: expose may not hold '/': that is the whole host");
  CHECK(complaint("workspace: {path: /}") ==
        "agent.yaml:2:19: workspace path may not be '/': it is a folder below the root");
  CHECK(complaint("workspace: {path: /proc/1}") ==
        "agent.yaml:2:19: workspace path /proc/1 is inside /proc, which the kernel fills");
}

TEST_CASE("names of capabilities, rlimits, variables and hosts are checked") {
  CHECK(complaint("capabilities: [SYS_ADMN]") ==
        "agent.yaml:2:16: unknown capability 'SYS_ADMN', did you mean 'SYS_ADMIN'?");
  CHECK(complaint("capabilities: [ALL]") == "agent.yaml:2:16: unknown capability 'ALL'");
  CHECK(complaint("rlimits: {nfile: 5}") == "agent.yaml:2:11: unknown rlimit 'nfile', did you mean 'nofile'?");
  CHECK(complaint("rlimits: {nofile: 64K}") ==
        "agent.yaml:2:19: rlimit nofile must be a whole number, SOFT:HARD or unlimited, not '64K'");
  CHECK(complaint("rlimits: {nofile: 9:8}") ==
        "agent.yaml:2:19: rlimit nofile: the soft limit is above the hard one in '9:8'");
  CHECK(complaint("environment: {A-B: c}") ==
        "agent.yaml:2:15: 'A-B' cannot be the name of a variable; letters, digits and '_' can");
  CHECK(complaint("hostname: a_b") ==
        "agent.yaml:2:11: hostname must be 1 to 64 letters, digits, '-' and '.', not 'a_b'");
}

TEST_CASE("a call's limits are read as the session's are") {
  CHECK(complaint("tool_call: {memory: 1G, pids: 128, wall: 60s}").empty());
  CHECK(complaint("tool_call: {memory: 1K}").starts_with("agent.yaml:2:21: memory 1K is too small"));
  CHECK(complaint("tool_call: {cpus: 1}").starts_with("agent.yaml:2:13: "));
}

TEST_CASE("the disk limit is a size that a file system fits into") {
  CHECK(complaint("limits: {disk: 1M}") == "agent.yaml:2:16: disk must be from 4M to 16T, not 1M");
  CHECK(complaint("limits: {disk: 17T}") == "agent.yaml:2:16: disk must be from 4M to 16T, not 17T");
  CHECK(complaint("limits: {disk: much}").starts_with("agent.yaml:2:16: disk must be a size such as 4G, not "));
  CHECK(complaint("limits: {disk: 4G}").empty());
}

TEST_CASE("what becomes of a snapshot that does not fit is refuse or cold") {
  CHECK(complaint("restore: {unfit: cold}").empty());
  CHECK(complaint("restore: {unfit: refuse}").empty());
  CHECK(complaint("restore: {unfit: warm}") == "agent.yaml:2:18: unfit must be refuse or cold, not 'warm'");
  CHECK(!shipped("default").cold_when_unfit);
}

TEST_CASE("a workspace has a quota, inputs, a volume, and its place in a snapshot") {
  CHECK(complaint("workspace: {quota: 2G, inputs: read-only, volume: ann.work}").empty());
  for (const char* word : {"share", "copy", "exclude"}) CHECK(complaint(fmt::format("workspace: {{snapshot: {}}}", word)).empty());
  CHECK(complaint("workspace: {snapshot: yes}") == "agent.yaml:2:23: snapshot must be share, copy or exclude, not 'yes'");
  CHECK(policy_of("user: agent").workspace.snapshot == Policy::Kept::Share);
  CHECK(complaint("workspace: {quota: 1M}") == "agent.yaml:2:20: quota must be from 4M to 16T, not 1M");
  CHECK(complaint("workspace: {inputs: yes}") == "agent.yaml:2:21: inputs must be read-only or writable, not 'yes'");
  for (const char* name : {"a/b", ".a", "-a", "\"\"", "[a]"})
    CHECK(complaint(fmt::format("workspace: {{volume: {}}}", name)).starts_with("agent.yaml:2:21: volume must be a name of letters"));
}

TEST_CASE("what is not enforced yet is refused by name, and never accepted and ignored") {
  CHECK(complaint("egress: [{host: a.example}]") ==
        "agent.yaml:2:1: egress is not enforced by this version of runner; remove it (the sandbox has no network)");
  for (const char* text : {"watch: []"}) {
    std::string said = complaint(text);
    CHECK_MESSAGE(said.find("is not enforced by this version of runner; remove it") != std::string::npos, said);
  }
}

TEST_CASE("the version is required, and must be 1") {
  Diagnostics wrong;
  CHECK(!parse_policy_text("a.yaml", "user: agent\n", wrong));
  CHECK(!parse_policy_text("b.yaml", "version: 2\n", wrong));
  CHECK(!parse_policy_text("c.yaml", "", wrong));
  CHECK(!parse_policy_text("d.yaml", "[version]", wrong));
  CHECK(wrong.entries() == Lines{"a.yaml:1:1: version is missing; a policy begins with 'version: 1'",
                                 "b.yaml:1:10: version must be 1, not '2'",
                                 "c.yaml:1:1: a policy is a mapping that begins with 'version: 1', not nothing",
                                 "d.yaml:1:1: a policy is a mapping that begins with 'version: 1', not a list"});
}

TEST_CASE("all mistakes of a file are reported at once, in its order") {
  CHECK(
      complaints("limit: 1\n"
                 "user: nobody\n"
                 "egress: []\n"
                 "limits:\n"
                 "  memory: lots\n"
                 "  pids: -5\n"
                 "rlimits: {nofile: many, core: 0, locksmith: 1}\n") ==
      Lines{"agent.yaml:2:1: unknown key 'limit', did you mean 'limits'?",
            "agent.yaml:3:7: user must be agent, root or UID:GID such as 1000:1000, not 'nobody'",
            "agent.yaml:4:1: egress is not enforced by this version of runner; remove it (the sandbox has no network)",
            "agent.yaml:6:11: memory must be a size such as 512MiB, not 'lots'",
            "agent.yaml:7:9: pids must be a whole number from 1 to 4194304, not '-5'",
            "agent.yaml:8:19: rlimit nofile must be a whole number, SOFT:HARD or unlimited, not 'many'",
            "agent.yaml:8:34: unknown rlimit 'locksmith'"});
}

TEST_CASE("mistakes of YAML and of the policy are reported together") {
  CHECK(complaints("user: &u agent\nuser: !x root\nlimits: {pids: *u, wall: soon}\n") ==
        Lines{"agent.yaml:2:7: anchors (&name) are not accepted; remove it",
              "agent.yaml:3:1: key 'user' is given twice, first on line 2",
              "agent.yaml:3:7: tags (!name) are not accepted; remove it",
              "agent.yaml:4:16: aliases (*name) are not accepted; write the value out",
              "agent.yaml:4:26: wall must be a time such as 30s, 5m or 2h, not 'soon'"});
}

TEST_CASE("a long or many-lined value is shown short and on one line") {
  CHECK(complaint("user: \"a\\nb\"").ends_with("not 'a\\nb'"));
  std::string said = complaint("user: " + std::string(5000, 'x'));
  CHECK(said.size() < 160);
  CHECK(said.ends_with("xxx...'"));
}

// ---- files ---------------------------------------------------------------------------------------------------------

TEST_CASE("a child overrides single values, merges mappings, and replaces lists") {
  Folder folder;
  folder.write(
      "base.yaml",
      "version: 1\ndescription: base\nrootfs: {view: host, expose: [/opt, /srv]}\nlimits: {memory: 2G, pids: 256}\n"
      "environment: {A: base, B: base}\nrlimits: {core: 0, nofile: 10}\n");
  folder.write(
      "child.yaml",
      "version: 1\nextends: base\nrootfs: {expose: [/usr/local]}\nlimits: {memory: 1G}\nenvironment: {B: child}\n"
      "rlimits: {nofile: 20}\n");
  Diagnostics wrong;
  auto policy = folder.load("child", wrong);
  REQUIRE_MESSAGE(policy, wrong.text());
  CHECK(policy->name == "child");
  CHECK(policy->description == "");
  CHECK(policy->files == Lines{folder.path() + "/child.yaml", folder.path() + "/base.yaml"});
  CHECK(policy->rootfs.view == Policy::View::Host);
  CHECK(policy->rootfs.expose == Lines{"/usr/local"});
  CHECK(policy->limits.memory == 1u << 30);
  CHECK(policy->limits.pids == 256);
  CHECK(policy->environment == std::map<std::string, std::string>{{"A", "base"}, {"B", "child"}});
  CHECK(policy->rlimits.at("core").hard == 0);
  CHECK(policy->rlimits.at("nofile").hard == 20);
  CHECK(policy->where("limits.memory").source == folder.path() + "/child.yaml");
  CHECK(policy->where("limits.memory").line == 4);
  CHECK(policy->where("limits.pids").source == folder.path() + "/base.yaml");
  CHECK(policy->where("hostname").source == "policy child");
}

TEST_CASE("a path in extends or in seccomp starts at the file that says it") {
  Folder folder;
  folder.write("team/base.yaml", "version: 1\nhostname: team\nseccomp: [filters/a.json, agent]\n");
  folder.write("child.yaml", "version: 1\nextends: team/base.yaml\n");
  Diagnostics wrong;
  auto policy = folder.load(folder.path() + "/child.yaml", wrong);
  REQUIRE_MESSAGE(policy, wrong.text());
  CHECK(policy->hostname == "team");
  CHECK(policy->seccomp == Lines{folder.path() + "/team/filters/a.json", "agent"});
}

TEST_CASE("policies that extend each other in a circle are refused, and the circle is named") {
  Folder folder;
  folder.write("a.yaml", "version: 1\nextends: b\n").write("b.yaml", "version: 1\nextends: ./a.yaml\n");
  folder.write("self.yaml", "version: 1\nextends: self\n");
  CHECK(folder.load_complaints("a") ==
        Lines{folder.path() + "/b.yaml:2:10: policies extend each other in a circle: a -> b -> a"});
  CHECK(folder.load_complaints("self") ==
        Lines{folder.path() + "/self.yaml:2:10: policies extend each other in a circle: self -> self"});
}

TEST_CASE("eight policies may extend one another, nine may not") {
  Folder folder;
  folder.write("p0.yaml", "version: 1\n");
  for (int i = 1; i <= 9; ++i)
    folder.write("p" + std::to_string(i) + ".yaml", "version: 1\nextends: p" + std::to_string(i - 1) + "\n");
  Diagnostics wrong;
  CHECK(folder.load("p8", wrong));
  CHECK(folder.load_complaints("p9") ==
        Lines{folder.path() + "/p1.yaml:2:10: more than 8 policies extend one another: p9 -> p8 -> p7 -> p6 -> p5 -> "
                              "p4 -> p3 -> p2 -> p1 -> p0"});
}

TEST_CASE("mistakes of a policy and of the one it extends are reported together") {
  Folder folder;
  folder.write("base.yaml", "version: 1\nlimits: {pids: 0}\n");
  folder.write("child.yaml", "version: 1\nextends: base\nlimits: {wall: never}\n");
  CHECK(folder.load_complaints("child") ==
        Lines{folder.path() + "/base.yaml:2:16: pids must be a whole number from 1 to 4194304, not '0'",
              folder.path() + "/child.yaml:3:16: wall must be a time such as 30s, 5m or 2h, not 'never'"});
}

TEST_CASE("a policy that is not there is reported with those that are") {
  Folder folder;
  CHECK(folder.load_complaints("default") ==
        Lines{"there is no policy 'default'; nor any other in [" + folder.path() + "]"});
  folder.write("default.yaml", "version: 1\nextends: nowhere\n").write("strict.yaml", "version: 1\n");
  CHECK(folder.load_complaints("defualt") == Lines{"there is no policy 'defualt', did you mean 'default'?"});
  CHECK(folder.load_complaints("own") == Lines{"there is no policy 'own'; there are default, strict"});
  CHECK(folder.load_complaints("default") ==
        Lines{folder.path() + "/default.yaml:2:10: there is no policy 'nowhere'; there are default, strict"});
  CHECK(folder.load_complaints("/nowhere/x.yaml") ==
        Lines{"/nowhere/x.yaml: cannot be opened: No such file or directory"});
  CHECK(folder.load_complaints("") == Lines{"'' cannot be the name or the path of a policy"});
  CHECK(folder.load_complaints("a\nb/c") == Lines{"'a\\nb/c' cannot be the name or the path of a policy"});
}

TEST_CASE("what cannot be read as a file is reported, and an endless one is not read to its end") {
  Folder folder;
  folder.write("dir.yaml/x", "");
  CHECK(folder.load_complaints("dir") == Lines{folder.path() + "/dir.yaml: cannot be read: Is a directory"});
  CHECK(folder.load_complaints("/dev/zero") == Lines{"/dev/zero: larger than 65536 bytes"});
}

TEST_CASE("a policy without a file cannot extend another") {
  CHECK(complaint("extends: default") == "agent.yaml:2:1: extends is for a policy that is in a file");
}

TEST_CASE("policies are listed by name, once, whichever folder they are in") {
  Folder one, two;
  one.write("b.yaml", "").write("notes.txt", "");
  two.write("a.yaml", "").write("b.yaml", "");
  CHECK(list_policies({one.path(), "/nowhere", two.path()}) == Lines{"a", "b"});
}

// ---- binds ---------------------------------------------------------------------------------------------------------

TEST_CASE("a bind may be writable at or below the places that the policy names") {
  Policy policy = policy_of("binds: {writable: [/workspace]}");
  CHECK(may_be_writable(policy, "/workspace"));
  CHECK(may_be_writable(policy, "/workspace/a/"));
  CHECK(!may_be_writable(policy, "/workspaces"));
  CHECK(!may_be_writable(policy, "/workspace/../etc"));
  CHECK(!may_be_writable(policy, "/"));
  CHECK(!may_be_writable(policy, "workspace"));
}

TEST_CASE("a forbidden source is refused, and so is what is below it and what would show it") {
  Policy policy = policy_of("binds: {forbid_sources: [/, /etc, /root/.ssh]}");
  CHECK(forbidden_source(policy, "/") == "/");
  CHECK(forbidden_source(policy, "/etc") == "/etc");
  CHECK(forbidden_source(policy, "/etc/shadow") == "/etc");
  CHECK(forbidden_source(policy, "/root") == "/root/.ssh");
  CHECK(!forbidden_source(policy, "/root/project"));
  CHECK(!forbidden_source(policy, "/etcetera"));
  CHECK(forbidden_source(policy, "/srv/../etc") == "/srv/../etc");
}

// ---- what is shipped -----------------------------------------------------------------------------------------------

TEST_CASE("every shipped policy loads without complaint") {
  CHECK(list_policies({shipped_folder()}) == Lines{"default", "quickstart", "strict"});
  for (const char* name : {"default", "quickstart", "strict"}) CHECK(shipped(name).name == name);
}

TEST_CASE("every shipped policy uses seccomp profiles that are shipped with it") {
  for (const char* name : {"default", "quickstart", "strict"})
    for (const std::string& profile : shipped(name).seccomp)
      CHECK(fs::exists(shipped_folder() + "/seccomp/" + profile + ".json"));
}

TEST_CASE("no shipped policy gives away the host") {
  for (const char* name : {"default", "quickstart", "strict"}) {
    Policy policy = shipped(name);
    CHECK(policy.user.uid == 1000);
    CHECK(policy.capabilities.empty());
    CHECK(policy.seccomp == Lines{"agent", "agent-arguments"});
    CHECK(policy.binds.writable == Lines{"/workspace"});
    CHECK(policy.rootfs.expose.empty());
    CHECK((policy.limits.memory && policy.limits.cpus && policy.limits.pids && policy.limits.wall &&
           policy.limits.output));
    CHECK(policy.rlimits.at("core").hard == 0);
    for (const char* source : {"/", "/etc/shadow", "/proc", "/sys", "/dev/sda", "/run/docker.sock", "/boot", "/root"})
      CHECK(forbidden_source(policy, source));
    CHECK(!forbidden_source(policy, "/home/me/project"));
  }
}

TEST_CASE("strict does not start without its limits, default says which are missing") {
  CHECK(shipped("strict").on_missing == Policy::Missing::Error);
  CHECK(shipped("default").on_missing == Policy::Missing::Warn);
}

TEST_CASE("explain gives each setting a line with its value, its place and its reason") {
  std::string text = explain_policy(shipped("strict"));
  std::string folder = shipped_folder();
  CHECK(text.find("policy strict (" + folder + "/strict.yaml extends " + folder + "/default.yaml)\n") == 0);
  CHECK(text.find("\nlimits.memory          512M          # " + folder + "/strict.yaml:12: Memory of all") !=
        std::string::npos);
  CHECK(text.find("\nlimits.output          64M           # " + folder + "/default.yaml:") != std::string::npos);
  CHECK(text.find("\nrlimits.nofile         1024:4096     # " + folder + "/default.yaml:") != std::string::npos);
  CHECK(text.find("\nenvironment            {}            # built in: ") != std::string::npos);
  CHECK(text.find("\nuser                   agent (1000:1000)  # ") != std::string::npos);
}
