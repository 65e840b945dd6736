// A plan is a pure function of config, policy and host; what it decides is tested here and pinned in tests/golden.
#include <doctest/doctest.h>
#include <sys/mount.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <optional>
#include <sstream>

#include "runner/plan/json.h"
#include "runner/plan/session_plan.h"

using namespace runner;
using namespace runner::plan;

namespace {

std::string source_root() {
  const char* root = std::getenv("RUNNER_SOURCE_ROOT");
  return root ? root : ".";
}

Policy shipped(const std::string& name) {
  Diagnostics wrong;
  auto policy = load_policy(name, {source_root() + "/policies"}, wrong);
  REQUIRE_MESSAGE(policy, wrong.text());
  return *policy;
}

Config plain_config() {
  Config config;
  config.id = "s-1";
  config.argv = {"true"};
  return config;
}

Host plain_host() {
  Host host;
  host.privileged = true;
  host.first_id = 0x70000000;
  host.upper = "/data/s-1/fs/upper";
  host.work = "/data/s-1/fs/work";
  host.generated = "/run/s-1/root";
  host.links = {{"/bin", "usr/bin"}, {"/lib", "usr/lib"}};
  host.directories = {"/usr"};
  host.etc = {"/etc/alternatives/"};
  return host;
}

Config with_volume(const std::string& from, const std::string& to, bool read_only) {
  Config config = plain_config();
  config.volumes = {{from, to, read_only, "-v " + from + ":" + to}};
  return config;
}

std::string why_not(const Config& config, Host host = plain_host(), const std::string& policy = "default") {
  for (const Volume& volume : config.volumes) host.owners.try_emplace(volume.from, std::pair{1000u, 1000u});
  Diagnostics wrong;
  auto plan = make_plan(config, shipped(policy), {}, host, wrong);
  CHECK(plan.has_value() == wrong.empty());
  return wrong.first();
}

SessionPlan plan_of(const Config& config, Host host = plain_host(), const std::string& policy = "default") {
  for (const Volume& volume : config.volumes) host.owners.try_emplace(volume.from, std::pair{1000u, 1000u});
  Diagnostics wrong;
  auto plan = make_plan(config, shipped(policy), {}, host, wrong);
  REQUIRE_MESSAGE(plan, wrong.text());
  return *plan;
}

void check_golden(const std::string& name, const SessionPlan& plan) {
  std::string path = source_root() + "/tests/golden/" + name, text = to_json(plan) + "\n";
  if (std::getenv("UPDATE_GOLDEN")) std::ofstream(path) << text;
  std::ostringstream pinned;
  pinned << std::ifstream(path).rdbuf();
  CHECK(pinned.str() == text);
}

}  // namespace

TEST_SUITE("plan") {
  TEST_CASE("the plan of `run -- true` is the pinned one") { check_golden("default.json", plan_of(plain_config())); }

  TEST_CASE("the plan of a root file system with a workspace under strict is the pinned one") {
    Config config = with_volume("/home/me/project", "/workspace", false);
    config.rootfs = "/images/debian";
    Host host = plain_host();
    host.links.clear();
    check_golden("strict-rootfs.json", plan_of(config, host, "strict"));
  }

  TEST_CASE("the plan of an ordinary user maps one id and prepares nothing with privilege") {
    Host host = plain_host();
    host.privileged = false;
    host.uid = host.gid = 1234;
    SessionPlan plan = plan_of(plain_config(), host);
    CHECK(plan.sandbox.ids.uids == std::vector<isolate::IdRange>{{1000, 1234, 1}});
    CHECK_FALSE(plan.sandbox.privileged_start);
    check_golden("ordinary-user.json", plan);
  }

  TEST_CASE("a writable bind outside the workspace is refused by the default policy") {
    CHECK(why_not(with_volume("/srv/data", "/data", false)) == "-v /srv/data:/data: /data may not be writable (policy: default)");
    CHECK(why_not(with_volume("/srv/data", "/data", true)) == "");
  }

  TEST_CASE("a volume is shown as the session's user's, wherever it is, and needs no place that binds may show") {
    Config config = plain_config();
    config.volumes = {{"/var/lib/runner/volumes/ann/data", "/workspace", false, "-v ann:/workspace", "ann"},
                      {"/var/lib/runner/volumes/ref/data", "/opt/ref", true, "-v ref:/opt/ref:ro", "ref"}};
    Host host = plain_host();
    for (const Volume& volume : config.volumes) host.owners[volume.from] = {0x7fff0007u, 0x7fff0007u};
    SessionPlan plan = plan_of(config, host);
    CHECK(plan.volumes == std::vector<std::string>{"ann", "ref"});
    int seen = 0;
    for (const isolate::Mount& mount : plan.sandbox.mounts)
      if (auto* bind = std::get_if<isolate::Bind>(&mount.what); bind && bind->from.find("/volumes/") != std::string::npos) {
        CHECK(bind->ids.uids == std::vector<isolate::IdRange>{{0x7fff0007, 0x70000000 + 1000, 1}});
        CHECK_FALSE(bind->follow_links);
        ++seen;
      }
    CHECK(seen == 2);
    config.volumes[1].read_only = false;
    CHECK(why_not(config, host) == "-v ref:/opt/ref:ro: /opt/ref may not be writable (policy: default)");
  }

  TEST_CASE("a workspace that no snapshot may have, and one that came out of a snapshot, are folders beside the layer") {
    Host host = plain_host();
    host.workspace = "/data/s-1/workspace/files";
    auto mount_of = [&](const Config& config, Policy::Kept kept) -> std::optional<isolate::Mount> {
      Diagnostics wrong;
      Policy policy = shipped("default");
      policy.workspace.snapshot = kept;
      auto plan = make_plan(config, policy, {}, host, wrong);
      REQUIRE_MESSAGE(plan, wrong.text());
      CHECK(plan->kept == kept);
      for (const isolate::Mount& mount : plan->sandbox.mounts)
        if (auto* bind = std::get_if<isolate::Bind>(&mount.what); bind && bind->from == host.workspace) return mount;
      return std::nullopt;
    };
    Config config = plain_config();
    CHECK_FALSE(mount_of(config, Policy::Kept::Share));
    CHECK_FALSE(mount_of(config, Policy::Kept::Copy));
    auto excluded = mount_of(config, Policy::Kept::Exclude);
    REQUIRE(excluded);
    CHECK(excluded->to == "/workspace");
    CHECK(excluded->set_recursive == (MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV));
    config.own_workspace = true;
    CHECK(mount_of(config, Policy::Kept::Share) == excluded);
    config.workspace_read_only = true;
    CHECK((mount_of(config, Policy::Kept::Copy)->set_recursive & MOUNT_ATTR_RDONLY) != 0);
    // What the caller brings there is his, whatever becomes of it in a snapshot.
    host.owners["/srv/work"] = {1000u, 1000u};
    CHECK_FALSE(mount_of(with_volume("/srv/work", "/workspace", false), Policy::Kept::Exclude));
  }

  TEST_CASE("a workspace with a quota and inputs is the pinned one, and what the caller brings must fit it") {
    Diagnostics wrong;
    Policy policy = shipped("default");
    policy.workspace.quota = 64u << 20;
    policy.workspace.read_only_inputs = true;
    Host host = plain_host();
    host.workspace = "/data/s-1/workspace/files";
    host.owners["/srv/in"] = host.owners["/srv/work"] = {1000u, 1000u};
    host.owners["/volumes/ann/data"] = {0x7fff0000u, 0x7fff0000u};
    auto decide = [&](std::vector<Volume> volumes) {
      Config config = plain_config();
      config.volumes = std::move(volumes);
      wrong = {};
      return make_plan(config, policy, {}, host, wrong);
    };
    // The inputs come behind the workspace that they lie in, whatever the order of the flags.
    auto plan = decide({{"/srv/in", "/workspace/inputs/", true, "-v 1", ""}, {"/volumes/ann/data", "/workspace", false, "-v 2", "ann"}});
    REQUIRE_MESSAGE(plan, wrong.text());
    auto at = [&](const std::string& from) {
      return std::find_if(plan->sandbox.mounts.begin(), plan->sandbox.mounts.end(), [&](const isolate::Mount& mount) {
        auto* bind = std::get_if<isolate::Bind>(&mount.what);
        return bind && bind->from == from;
      });
    };
    CHECK(at("/volumes/ann/data") < at("/srv/in"));
    CHECK(std::get<isolate::Bind>(at("/volumes/ann/data")->what).quota->shared);
    plan = decide({});
    REQUIRE(plan);
    check_golden("workspace.json", *plan);
    CHECK_FALSE(decide({{"/srv/in", "/workspace/inputs", false, "-v 1", ""}}));
    CHECK(wrong.first() == "-v 1: /workspace/inputs may not be writable (policy: default, workspace.inputs)");
    CHECK_FALSE(decide({{"/srv/work", "/workspace/", false, "-v 1", ""}}));
    CHECK(wrong.first().find("which cannot be put on a folder of the host") != std::string::npos);
  }

  TEST_CASE("what the host must keep for itself is never bound") {
    for (const char* from : {"/", "/etc", "/etc/ssh", "/proc", "/sys/kernel", "/dev", "/boot", "/run/docker.sock"})
      CHECK(why_not(with_volume(from, "/workspace", true)).find("may not be shown in a sandbox") != std::string::npos);
  }

  TEST_CASE("nothing is mounted over /proc, /dev, /sys or the root") {
    for (const char* to : {"/proc", "/proc/sys", "/dev/shm", "/sys", "/"})
      CHECK(why_not(with_volume("/srv/data", to, true)) != "");
  }

  TEST_CASE("a flag may ask for less than the policy, and not for more") {
    Config config = plain_config();
    config.memory = 64u << 20;
    config.pids = 10;
    config.cpus = 500;
    SessionPlan plan = plan_of(config);
    CHECK(plan.sandbox.cgroup.limits.memory == 64 << 20);
    CHECK(plan.sandbox.cgroup.limits.pids == 10);
    CHECK(plan.sandbox.cgroup.limits.cpu_quota == 50'000);
    config.memory = std::uint64_t{64} << 30;
    CHECK(why_not(config) == "--memory: 64G is more than policy default allows (2G)");
  }

  TEST_CASE("a session has no capability, whoever its user is") {
    Config config = plain_config();
    config.user = "root";
    CHECK(plan_of(config).sandbox.process.capabilities == isolate::Capabilities{});
    config.cap_add = {"SYS_ADMIN"};
    CHECK(why_not(config) == "--cap-add: policy default does not allow SYS_ADMIN");
    config.cap_add.clear();
    config.cap_drop = {"ALL"};
    CHECK(why_not(config) == "");
    config.cap_drop = {"NO_SUCH_THING"};
    CHECK(why_not(config) == "--cap-drop: unknown capability 'NO_SUCH_THING'");
  }

  TEST_CASE("a user is a number of 16 bits or a known name") {
    Config config = plain_config();
    for (const char* bad : {"0x0", " 0", "+0", "65536", "4294967295", "1000:", "nobody", "1e3"}) {
      config.user = bad;
      CHECK(why_not(config).find("--user: must be agent, root, or UID[:GID]") == 0);
    }
    config.user = "1001:1002";
    CHECK(plan_of(config).sandbox.process.gid == 1002);
  }

  TEST_CASE("a root file system whose /dev is a link is refused with its place") {
    Config config = plain_config();
    config.rootfs = "/images/evil";
    Host host = plain_host();
    host.links = {{"/dev", "/host/dev"}};
    CHECK(why_not(config, host) == "--rootfs /images/evil: /dev is a symbolic link to /host/dev; a session needs a real one there");
  }

  TEST_CASE("all mistakes of a command line are told at once") {
    Config config = with_volume("/etc", "/etc", false);
    config.memory = std::uint64_t{64} << 30;
    config.user = "x";
    Diagnostics wrong;
    CHECK_FALSE(make_plan(config, shipped("default"), {}, plain_host(), wrong));
    CHECK(wrong.entries().size() >= 4);
  }
}
