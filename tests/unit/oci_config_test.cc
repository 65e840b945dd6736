// config.json: version, annotations, root, process, hooks; the files on disk; and the example that `spec` writes.
#include <sys/resource.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "isolate/privileges.h"
#include "runner/oci/features.h"
#include "runner/oci/json.h"
#include "runner/oci/process.h"
#include "runner/oci/spec.h"
#include "tests/unit/oci_support.h"

using namespace runner;
using namespace runner::oci;
using namespace runner::oci::test;
namespace fs = std::filesystem;

namespace {

constexpr std::uint64_t bit(int capability) { return std::uint64_t{1} << capability; }
constexpr int kKill = 5, kNetRaw = 13, kSysAdmin = 21;

/// A bundle on disk, gone again at the end of the test.
struct Bundle {
  fs::path path;
  Bundle() {
    char name[] = "/tmp/oci-bundle-XXXXXX";
    REQUIRE(::mkdtemp(name));
    path = fs::canonical(name);
    fs::create_directory(path / "rootfs");
    write(plain_config());
  }
  ~Bundle() { fs::remove_all(path); }
  void write(const Json& config) { std::ofstream(path / "config.json") << config.dump(); }
};

LoadOptions options_on_disk() {
  LoadOptions options = plain_options();
  options.look_at_files = true;
  return options;
}

}  // namespace

TEST_CASE("a small config is a plan of few surprises") {
  Container container = good(plain_config());
  CHECK(container.oci_version == "1.2.0");
  CHECK(container.bundle == "/bundle");
  CHECK(container.rootfs == "/bundle/rootfs");
  CHECK(container.warnings.empty());
  isolate::Plan plan;
  plan.id = "c1";
  plan.root.path = "/bundle/rootfs";
  plan.namespaces = {{isolate::NamespaceKind::Mount, ""}, {isolate::NamespaceKind::Pid, ""}};
  plan.process.argv = {"sh"};
  plan.process.no_new_privileges = false;  // the specification's default
  plan.cgroup.path = "/c1";
  plan.cgroup.everywhere = true;
  CHECK(container.plan == plan);
}

TEST_CASE("every version 1.x of the specification is read, and no other") {
  Json config = plain_config();
  for (const char* version : {"1.0.0", "1.0.2-dev", "1.1.0-rc.3", "1.2.1", "1.3.0", "1.99.0+build.5"}) {
    config["ociVersion"] = version;
    CHECK(good(config).oci_version == version);
  }
  for (const char* version :
       {"", "1", "1.2", "1.2.", "1.2.0-", "1.2.0 ", "1.2.x", "2.0.0", "0.9.0", "11.0.0", "1.2.0-\x1b"}) {
    config["ociVersion"] = version;
    CHECK(mistakes(config).rfind("config.json: ociVersion: must be a version 1.x.y", 0) == 0);
  }
  config.erase("ociVersion");
  CHECK(mistakes(config) == "config.json: ociVersion: is missing");
}

TEST_CASE("what the specification does not know is ignored; what is ours and unknown is not") {
  Json config = plain_config();
  config["something"]["new"] = {1, 2};
  config["process"]["something"] = "new";
  config["windows"]["layerFolders"] = Json::array();
  config["annotations"] = {{"org.example.key", "value"}};
  CHECK(good(config).annotations.at("org.example.key") == "value");
  config["annotations"]["dev.runner.policy"] = "strict";
  config["annotations"]["dev.runner.restore"] = "/images//a";
  config["annotations"]["dev.runner.events"] = "/run/events";
  config["annotations"]["dev.runner.init"] = "true";
  CHECK(good(config).asked == Asked{"strict", "/images/a", "/run/events", true});
  config["annotations"]["dev.runner.init"] = "1";
  CHECK(mistakes(config) == "config.json: annotations['dev.runner.init']: must be \"true\" or \"false\", not '1'");
  config["annotations"].erase("dev.runner.init");
  config["annotations"]["dev.runner.restore"] = "a";
  CHECK(mistakes(config) == "config.json: annotations['dev.runner.restore']: must be an absolute path, not 'a'");
  config["annotations"].erase("dev.runner.restore");
  config["annotations"]["dev.runner.future"] = "x";
  CHECK(mistakes(config) ==
        "config.json: annotations['dev.runner.future']: is an annotation of runner that this version does not know");
  config["annotations"] = {{"org.example.key", 5}};
  CHECK(mistakes(config) == "config.json: annotations['org.example.key']: must be text, not a number");
}

TEST_CASE("all mistakes are reported at once") {
  Json config = plain_config();
  config["process"]["args"] = Json::array();
  config["process"]["cwd"] = "home";
  config["root"]["path"] = 7;
  CHECK(mistakes(config) ==
        "config.json: root.path: must be text, not a number\n"
        "config.json: process.args: must not be empty\n"
        "config.json: process.cwd: must be an absolute path, not 'home'");
  CHECK(mistakes(Json::array()) == "config.json: must be an object, not a list");
  CHECK(mistakes(Json::parse("{\"process\": [], \"root\": null}")) ==
        "config.json: ociVersion: is missing\n"
        "config.json: root: is missing\n"
        "config.json: process: must be an object, not a list\n"
        "config.json: linux: is missing");
}

TEST_CASE("the process is what the file says") {
  Json config = plain_config();
  config["process"] = Json::parse(R"({
    "terminal": true, "consoleSize": {"height": 24, "width": 80},
    "user": {"uid": 1000, "gid": 100, "umask": 18, "additionalGids": [5, 4294967294], "username": "ignored"},
    "args": ["/bin/sh", "-c", ""], "env": ["A=1", "B=", "C=a=b"], "cwd": "/home",
    "noNewPrivileges": true, "oomScoreAdj": -500,
    "rlimits": [{"type": "RLIMIT_NOFILE", "soft": 1024, "hard": 4096}, {"type": "RLIMIT_CORE", "soft": 0, "hard": 18446744073709551615}]
  })");
  isolate::Process p = good(config).plan.process;
  CHECK(p.terminal == isolate::Terminal{24, 80});
  CHECK(p.uid == 1000);
  CHECK(p.gid == 100);
  CHECK(p.umask == 022u);
  CHECK(p.groups == std::vector<std::uint32_t>{5, 4294967294});
  CHECK(p.argv == std::vector<std::string>{"/bin/sh", "-c", ""});
  CHECK(p.env == std::vector<std::string>{"A=1", "B=", "C=a=b"});
  CHECK(p.cwd == "/home");
  CHECK(p.no_new_privileges);
  CHECK(p.oom_score_adj == -500);
  REQUIRE(p.rlimits.size() == 2);
  CHECK(p.rlimits[0] == isolate::Rlimit{RLIMIT_NOFILE, 1024, 4096});
  CHECK(p.rlimits[1] == isolate::Rlimit{RLIMIT_CORE, 0, RLIM_INFINITY});
  config["process"]["terminal"] = false;
  CHECK(!good(config).plan.process.terminal);
}

TEST_CASE("a process that cannot be is refused") {
  Json config = plain_config();
  Json& process = config["process"];
  process["user"] = {{"uid", -1}, {"umask", 01000}};
  process["env"] = {"NAME", "=value"};
  process["oomScoreAdj"] = 1001;
  process["consoleSize"] = {{"height", 65536}};
  process["rlimits"] =
      Json::parse(R"([{"type": "RLIMIT_NOFILE", "soft": 2, "hard": 1}, {"type": "RLIMIT_BOGUS", "soft": 1, "hard": 1},
    {"type": "RLIMIT_CPU", "soft": 1, "hard": 1}, {"type": "RLIMIT_CPU", "soft": 1, "hard": 1}, {"type": "RLIMIT_AS", "hard": 1}])");
  CHECK(mistakes(config) ==
        "config.json: process.consoleSize.height: must be a number from 0 to 65535, not 65536\n"
        "config.json: process.user.uid: must be a number from 0 to 4294967294, not -1\n"
        "config.json: process.user.umask: must be a number from 0 to 511, not 512\n"
        "config.json: process.env[0]: must have the form NAME=value, not 'NAME'\n"
        "config.json: process.env[1]: must have the form NAME=value, not '=value'\n"
        "config.json: process.rlimits[0]: has a soft limit (2) above the hard one (1)\n"
        "config.json: process.rlimits[1].type: must be a resource of setrlimit(2) such as RLIMIT_NOFILE, not "
        "'RLIMIT_BOGUS'\n"
        "config.json: process.rlimits[3].type: RLIMIT_CPU is there twice\n"
        "config.json: process.rlimits[4].soft: is missing\n"
        "config.json: process.oomScoreAdj: must be a number from -1000 to 1000, not 1001");
}

TEST_CASE("the id -1, with which the process would stay root, is refused") {
  Json config = plain_config();
  config["process"]["user"] = {{"uid", 4294967295}, {"gid", 4294967295}, {"additionalGids", {4294967295}}};
  CHECK(mistakes(config) ==
        "config.json: process.user.uid: must be a number from 0 to 4294967294, not 4294967295\n"
        "config.json: process.user.gid: must be a number from 0 to 4294967294, not 4294967295\n"
        "config.json: process.user.additionalGids[0]: must be a number from 0 to 4294967294, not 4294967295");
}

TEST_CASE("the last of several values of one variable counts") {
  Json config = plain_config();
  config["process"]["env"] = {"PATH=/evil", "A=1", "PATH=/bin"};
  CHECK(good(config).plan.process.env == std::vector<std::string>{"A=1", "PATH=/bin"});
}

TEST_CASE("capabilities: unknown ones are passed over with a warning, ambient ones only where the kernel allows them") {
  Json config = plain_config();
  Json& sets = config["process"]["capabilities"];
  sets["bounding"] = {"CAP_KILL", "CAP_NET_RAW", "CAP_FUTURE", "kill"};
  sets["permitted"] = {"CAP_KILL", "CAP_NET_RAW"};
  sets["effective"] = {"CAP_KILL"};
  sets["inheritable"] = {"CAP_NET_RAW"};
  sets["ambient"] = {"CAP_KILL", "CAP_NET_RAW"};
  Container container = good(config);
  CHECK(container.plan.process.capabilities == isolate::Capabilities{bit(kKill) | bit(kNetRaw), bit(kKill),
                                                                     bit(kKill) | bit(kNetRaw), bit(kNetRaw),
                                                                     bit(kKill) | bit(kNetRaw)});  // `exec --cap` may make it possible
  REQUIRE(container.warnings.size() == 2);
  CHECK(container.warnings[0] == "can't raise ambient capability CAP_KILL: it is not both permitted and inheritable");
  CHECK(container.warnings[1] ==
        "process.capabilities: ignoring capabilities that this kernel does not know: 'CAP_FUTURE', 'kill'");
}

TEST_CASE("without capabilities a process has none") {
  CHECK(good(plain_config()).plan.process.capabilities == isolate::Capabilities{});
}

TEST_CASE("capabilities that capset(2) would refuse are refused before") {
  Json config = plain_config();
  config["process"]["capabilities"] = {{"effective", {"CAP_SYS_ADMIN"}}, {"inheritable", {"CAP_KILL"}}};
  CHECK(mistakes(config) ==
        "config.json: process.capabilities.effective: must not hold what is not permitted: CAP_SYS_ADMIN\n"
        "config.json: process.capabilities.inheritable: must not hold what is not in the bounding set: CAP_KILL");
}

TEST_CASE("what is not built yet is refused by name, and its empty form is not") {
  Json config = plain_config();
  for (const char* field : {"apparmorProfile", "selinuxLabel", "scheduler", "ioPriority", "execCPUAffinity"})
    config["process"][field] = nullptr;
  config["process"]["apparmorProfile"] = "";
  config["process"]["scheduler"] = Json::object();
  config["linux"]["intelRdt"] = Json::object();
  config["linux"]["mountLabel"] = "";
  config["linux"]["personality"] = {{"domain", "LINUX"}};
  good(config);
  config["process"]["selinuxLabel"] = "system_u:system_r:container_t:s0";
  config["linux"]["intelRdt"] = {{"closID", "x"}};
  config["linux"]["mountLabel"] = "label";
  config["linux"]["netDevices"] = {{"eth0", Json::object()}};
  config["linux"]["memoryPolicy"] = {{"mode", "MPOL_BIND"}};
  std::string text = mistakes(config);
  for (const char* name :
       {"process.selinuxLabel: cannot be applied",
        "linux.intelRdt: is not", "linux.mountLabel: cannot", "linux.netDevices: is not", "linux.memoryPolicy: is not"})
    CHECK_MESSAGE(text.find(name) != std::string::npos, name);
}

TEST_CASE("when and where a program runs, and what it takes for the time") {
  Json config = plain_config();
  config["process"]["scheduler"] = Json::parse(R"({"policy": "SCHED_FIFO", "priority": 5, "flags": ["SCHED_FLAG_RESET_ON_FORK"]})");
  config["process"]["ioPriority"] = {{"class", "IOPRIO_CLASS_BE"}, {"priority", 4}};
  config["process"]["execCPUAffinity"] = {{"initial", "0"}, {"final", "0-1,3"}};
  config["linux"]["personality"] = {{"domain", "LINUX32"}};
  config["linux"]["namespaces"].push_back({{"type", "time"}});
  config["linux"]["timeOffsets"] = {{"boottime", {{"secs", -5}, {"nanosecs", 7}}}};
  isolate::Plan plan = good(config).plan;
  CHECK(plan.process.scheduler == isolate::Scheduler{1, 5, 0, 1, 0, 0, 0});
  CHECK(plan.process.io_priority == isolate::IoPriority{2, 4});
  CHECK(plan.process.exec_cpus == "0-1,3");
  CHECK(plan.process.personality == 8u);
  CHECK(plan.time_offsets.at("boottime") == std::pair<std::int64_t, std::uint32_t>(-5, 7));
  config["process"]["scheduler"] = {{"policy", "SCHED_OTHER"}, {"priority", 1}, {"runtime", 5}};
  config["process"]["ioPriority"] = {{"class", "IOPRIO_CLASS_HIGH"}};
  config["process"]["execCPUAffinity"] = {{"initial", "1-0"}};
  config["linux"]["personality"] = {{"domain", "BSD"}};
  config["linux"]["timeOffsets"] = {{"realtime", {{"secs", 5}}}};
  std::string text = mistakes(config);
  for (const char* name : {"process.scheduler.priority: is for SCHED_FIFO", "process.scheduler: has runtime", "process.ioPriority.class: must be one of", "process.execCPUAffinity.initial: must be a list",
                           "linux.personality.domain: must be LINUX or", "linux.timeOffsets.realtime: is no clock"})
    CHECK_MESSAGE(text.find(name) != std::string::npos, name);
}

TEST_CASE("host and domain names need a namespace for them") {
  Json config = plain_config();
  config["hostname"] = "box";
  config["domainname"] = "example.org";
  CHECK(mistakes(config) ==
        "config.json: hostname: unable to set hostname without a private UTS namespace\n"
        "config.json: domainname: unable to set domainname without a private UTS namespace");
  add_namespace(config, "uts");
  CHECK(good(config).plan.hostname == "box");
  CHECK(good(config).plan.domainname == "example.org");
  config["hostname"] = std::string(65, 'x');
  CHECK(mistakes(config) == "config.json: hostname: must not be longer than 64 characters");
}

TEST_CASE("hooks of all six kinds are read in order") {
  Json config = plain_config();
  for (const std::string& kind : hook_names())
    config["hooks"][kind] =
        Json::parse(R"([{"path": "/a", "args": ["a", "b"], "env": ["X=1"], "timeout": 5}, {"path": "/b"}])");
  isolate::Hooks hooks = good(config).plan.hooks;
  for (const auto* list : {&hooks.prestart, &hooks.create_runtime, &hooks.create_container, &hooks.start_container,
                           &hooks.poststart, &hooks.poststop}) {
    REQUIRE(list->size() == 2);
    CHECK((*list)[0] == isolate::Hook{"/a", {"a", "b"}, std::vector<std::string>{"X=1"}, 5});
    CHECK((*list)[1] == isolate::Hook{"/b", {}, {}, {}});
  }
  config["hooks"] = Json::parse(R"({"prestart": [{"path": "relative"}, {"path": "/x", "timeout": 0}, {}]})");
  CHECK(mistakes(config) ==
        "config.json: hooks.prestart[0].path: must be an absolute path, not 'relative'\n"
        "config.json: hooks.prestart[1].timeout: must be a number from 1 to 86400, not 0\n"
        "config.json: hooks.prestart[2].path: is missing");
}

TEST_CASE("a bundle is read from disk, whatever path leads to it") {
  Bundle bundle;
  Diagnostics wrong;
  auto container = load_bundle(bundle.path.string() + "/rootfs/..", "", options_on_disk(), wrong);
  INFO(wrong.text());
  REQUIRE(container);
  CHECK(container->bundle == bundle.path);
  CHECK(container->plan.root.path == bundle.path / "rootfs");
  fs::copy_file(bundle.path / "config.json", bundle.path / "other.json");
  fs::remove(bundle.path / "config.json");
  CHECK(load_bundle(bundle.path, bundle.path / "other.json", options_on_disk(), wrong));
  CHECK(!load_bundle(bundle.path, "", options_on_disk(), wrong));
  CHECK(wrong.first() == bundle.path.string() + "/config.json: No such file or directory");
}

TEST_CASE("the root must be a directory of its own") {
  Bundle bundle;
  Json config = plain_config();
  auto said = [&](const std::string& path) {
    config["root"]["path"] = path;
    bundle.write(config);
    Diagnostics wrong;
    CHECK(!load_bundle(bundle.path, "", options_on_disk(), wrong));
    return wrong.text();
  };
  CHECK(said("") == "config.json: root.path: must not be empty");
  CHECK(said("missing").find("No such file or directory") != std::string::npos);
  CHECK(said("config.json").find("is not a directory") != std::string::npos);
  fs::create_symlink("/", bundle.path / "link");
  CHECK(said("link").find("not a symbolic link") != std::string::npos);
  CHECK(said("link/").find("not a symbolic link") != std::string::npos);
}

TEST_CASE("a config that is too large or no file at all is refused") {
  Bundle bundle;
  std::ofstream(bundle.path / "config.json") << std::string(json::kLargestText + 1, ' ');
  Diagnostics wrong;
  CHECK(!load_bundle(bundle.path, "", options_on_disk(), wrong));
  CHECK(!load_bundle(bundle.path, bundle.path / "rootfs", options_on_disk(), wrong));
  CHECK(!load_bundle(bundle.path / "nowhere", "", options_on_disk(), wrong));
  REQUIRE(wrong.entries().size() == 3);
  CHECK(wrong.entries()[0].find("is larger than 1048576 bytes") != std::string::npos);
  CHECK(wrong.entries()[1].find("is a directory") != std::string::npos);
  CHECK(wrong.entries()[2].find("No such file or directory") != std::string::npos);
}

TEST_CASE("a process alone is read as the same object") {
  std::vector<std::string> warnings;
  Diagnostics wrong;
  isolate::Capabilities of_container{1, 2, 3, 0, 0};
  auto process = read_process(R"({"args": ["id"], "cwd": "/", "user": {"uid": 5, "gid": 6}, "terminal": true})",
                              "process.json", of_container, warnings, wrong);
  REQUIRE(process);
  CHECK(process->uid == 5);
  CHECK(process->terminal == isolate::Terminal{});
  CHECK(process->capabilities == of_container);  // it names none
  process = read_process(R"({"args": ["id"], "cwd": "/", "capabilities": {}})", "process.json", of_container, warnings,
                         wrong);
  CHECK(process->capabilities == isolate::Capabilities{});
  CHECK(!read_process(R"({"args": ["id"]})", "process.json", of_container, warnings, wrong));
  CHECK(wrong.text() == "process.json: cwd: is missing");
}

TEST_CASE("the example is one that we can read ourselves") {
  Container container = good(Json::parse(example_spec({})));
  CHECK(container.warnings.empty());
  CHECK(container.plan.hostname == "runner");
  CHECK(container.plan.root.read_only);
  CHECK(container.plan.makes(isolate::NamespaceKind::Network));
  CHECK(container.plan.makes(isolate::NamespaceKind::Cgroup));
  CHECK(container.plan.mounts.size() == 7);

  LoadOptions options = plain_options();
  options.privileged = false;
  Container rootless = good(Json::parse(example_spec({true, 1000, 100})), options);
  CHECK(!rootless.plan.privileged_start);
  CHECK(!rootless.plan.makes(isolate::NamespaceKind::Network));
  CHECK(rootless.plan.ids == isolate::IdMap{{{0, 1000, 1}}, {{0, 100, 1}}});
  CHECK(rootless.plan.cgroup.limits == isolate::Limits{});
}

TEST_CASE("features lists what the parsers accept, and nothing more") {
  Json features = Json::parse(features_json());
  CHECK(features["ociVersionMin"] == "1.0.0");
  CHECK(features["hooks"].size() == 6);
  Json config = plain_config();
  for (const Json& option : features["mountOptions"]) {
    if (option == "tmpcopyup") continue;  // which is for no bind
    bool needs_map = option == "idmap" || option == "ridmap";
    config["mounts"] = Json::array({{{"destination", "/mnt"}, {"source", "/x"}, {"options", {"bind", option}}}});
    if (needs_map)
      config["mounts"][0]["uidMappings"] = config["mounts"][0]["gidMappings"] =
          Json::parse(R"([{"containerID": 0, "hostID": 1, "size": 1}])");
    good(config);
  }
  for (const char* option : {"remount", "iversion"})
    CHECK(std::find(features["mountOptions"].begin(), features["mountOptions"].end(), option) ==
          features["mountOptions"].end());
  config = plain_config();
  for (const Json& action : features["linux"]["seccomp"]["actions"]) {
    config["linux"]["seccomp"] = {{"defaultAction", "SCMP_ACT_ALLOW"}, {"listenerPath", "/agent.sock"}, {"syscalls", {{{"names", {"mkdir"}}, {"action", action}}}}};
    good(config);
  }
  CHECK(features["linux"]["capabilities"].size() == static_cast<std::size_t>(isolate::last_capability()) + 1);
  CHECK(features["linux"]["capabilities"][kSysAdmin] == "CAP_SYS_ADMIN");
  CHECK(features["linux"]["cgroup"]["systemd"] == true);
  CHECK(features["annotations"]["org.opencontainers.runc.checkpoint.enabled"] == "true");
}
