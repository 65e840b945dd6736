// cgroupsPath and the limits of config.json, and of `update --resources`.
#include "runner/oci/resources.h"
#include "runner/systemd/scope.h"
#include "tests/unit/oci_support.h"

using namespace runner;
using namespace runner::oci;
using namespace runner::oci::test;
using isolate::DeviceRule;
using isolate::IoLimit;
using isolate::Limits;

namespace {

Json with_resources(const char* resources) {
  Json config = plain_config();
  config["linux"]["resources"] = Json::parse(resources);
  return config;
}

Limits limits_of(const char* resources) { return good(with_resources(resources)).plan.cgroup.limits; }

}  // namespace

TEST_CASE("the cgroup's path is the id, or what the config says, below the hierarchy") {
  Json config = plain_config();
  auto path = [&](const char* value) {
    config["linux"]["cgroupsPath"] = value;
    return good(config).plan.cgroup.path;
  };
  CHECK(path("") == "/c1");
  CHECK(path("/pod/a") == "/pod/a");
  CHECK(path("//pod/./a/") == "/pod/a");
  CHECK(path("pod/a") == "/runner/pod/a");
  CHECK(path("system.slice:docker:1234") ==
        "/runner/system.slice:docker:1234");  // without --systemd-cgroup it is a name
  config["linux"]["cgroupsPath"] = "/a/../../b";
  CHECK(mistakes(config) == "config.json: linux.cgroupsPath: must not contain '..', as '/a/../../b' does");
  config["linux"]["cgroupsPath"] = "/";
  CHECK(mistakes(config) == "config.json: linux.cgroupsPath: must not be the root of the hierarchy");
}

TEST_CASE("under --systemd-cgroup cgroupsPath names a scope") {
  LoadOptions options = plain_options();
  options.systemd_cgroup = true;
  Json config = plain_config();
  auto scope = [&](const char* path) {
    config["linux"]["cgroupsPath"] = path;
    auto read = good(config, options);
    CHECK(read.plan.cgroup.path.empty());  // systemd says it
    return read.scope.value().slice + " " + read.scope.value().unit;
  };
  CHECK(scope("system.slice:docker:1234") == "system.slice docker-1234.scope");
  CHECK(scope("machine.slice::1234") == "machine.slice 1234.scope");
  CHECK(scope(":cri-containerd:1234") == " cri-containerd-1234.scope");
  CHECK(scope("") == " runner-c1.scope");
  auto wrong = [&](const char* path) {
    config["linux"]["cgroupsPath"] = path;
    return mistakes(config, options);
  };
  CHECK(wrong("/a/b") == "config.json: linux.cgroupsPath: expected cgroupsPath to be of format \"slice:prefix:name\" for systemd cgroups, got '/a/b' instead");
  CHECK(wrong("system:docker:1") == "config.json: linux.cgroupsPath: 'system' is not the name of a systemd slice");
  CHECK(wrong("system.slice:docker:a/b") == "config.json: linux.cgroupsPath: 'docker-a/b.scope' is not the name of a systemd unit");
  options.systemd_cgroup = false;
  config["linux"]["cgroupsPath"] = "system.slice:docker:1234";
  CHECK(!good(config, options).scope);
}

TEST_CASE("a scope has the limits that systemd would write anew") {
  isolate::Limits limits;
  limits.memory = 1 << 20, limits.memory_and_swap = 3 << 20, limits.pids = -1, limits.cpu_quota = 2'500, limits.cpu_period = 100'000, limits.cpu_shares = 1024;
  limits.cpuset_cpus = "0-2,9", limits.unified = {{"memory.high", "max"}, {"memory.oom.group", "1"}};
  CHECK(systemd::properties_of(limits) == std::vector<std::string>{"MemoryMax=t:1048576", "MemorySwapMax=t:2097152", "CPUWeight=t:100", "CPUQuotaPerSecUSec=t:30000",
        "CPUQuotaPeriodUSec=t:100000", "TasksMax=t:18446744073709551615", "AllowedCPUs=ay:0702", "MemoryHigh=t:18446744073709551615"});
  CHECK(systemd::properties_of({}).empty());
}

TEST_CASE("without cgroups there is no path, and a limit is an error") {
  LoadOptions options = plain_options();
  options.cgroups_disabled = true;
  CHECK(good(with_resources(R"({"devices": [{"allow": false, "access": "rwm"}], "pids": {"limit": -1}})"), options)
            .plan.cgroup == isolate::CgroupPlan{});
  CHECK(mistakes(with_resources(R"({"pids": {"limit": 5}})"), options) ==
        "config.json: linux.resources: cannot be applied without cgroups (--cgroup-manager disabled)");
}

TEST_CASE("limits are read as the specification has them") {
  Limits limits = limits_of(R"({
    "memory": {"limit": 536870912, "reservation": 268435456, "swap": 1073741824},
    "cpu": {"shares": 1024, "quota": 50000, "period": 100000, "burst": 1000, "cpus": "0-1", "mems": "0", "idle": 1},
    "pids": {"limit": 100},
    "blockIO": {"weight": 500, "throttleReadBpsDevice": [{"major": 8, "minor": 0, "rate": 600}, {"major": 8, "minor": 16, "rate": 5}],
                "throttleWriteBpsDevice": [{"major": 8, "minor": 0, "rate": 700}],
                "throttleReadIOPSDevice": [{"major": 8, "minor": 0, "rate": 10}], "throttleWriteIOPSDevice": [{"major": 8, "minor": 0, "rate": 20}]},
    "unified": {"memory.high": "500M", "pids.max": "90"}})");
  Limits wanted;
  wanted.memory = 536870912;
  wanted.memory_reservation = 268435456;
  wanted.memory_and_swap = 1073741824;
  wanted.cpu_shares = 1024;
  wanted.cpu_quota = 50000;
  wanted.cpu_period = 100000;
  wanted.cpuset_cpus = "0-1";
  wanted.cpuset_mems = "0";
  wanted.pids = 100;
  wanted.io_weight = 500;
  wanted.io = {IoLimit{8, 0, 600, 700, 10, 20}, IoLimit{8, 16, 5, {}, {}, {}}};
  wanted.cpu_burst = 1000, wanted.cpu_idle = true;
  wanted.unified = {{"memory.high", "500M"}, {"pids.max", "90"}};
  CHECK(limits == wanted);
}

TEST_CASE("0 is a limit that nobody asked for, and every negative number of CPU time or processes none") {
  Limits none;
  none.cpu_burst = 0, none.cpu_idle = false;  // which `update` can take away with it
  CHECK(
      limits_of(
          R"({"memory": {"limit": 0, "reservation": 0, "swap": 0}, "cpu": {"shares": 0, "quota": 0, "period": 0, "burst": 0, "idle": 0,
    "realtimeRuntime": 0, "realtimePeriod": 0}, "pids": {"limit": 0}, "blockIO": {"weight": 0, "leafWeight": 0}, "network": {"classID": 0}})") ==
      none);
  Limits limits = limits_of(R"({"memory": {"limit": -1}, "cpu": {"quota": -5}, "pids": {"limit": -7}})");
  CHECK(limits.memory == -1);
  CHECK(limits.memory_and_swap == -1);
  CHECK(limits.cpu_quota == -1);
  CHECK(limits.pids == -1);
  CHECK(mistakes(with_resources(R"({"memory": {"limit": -2}})")) ==
        "config.json: linux.resources.memory.limit: must be a number from -1 to 9223372036854775807, not -2");
}

TEST_CASE("swap is counted together with memory") {
  CHECK(mistakes(with_resources(R"({"memory": {"swap": 100}})")) ==
        "config.json: linux.resources.memory.swap: needs a limit of memory beside it");
  CHECK(mistakes(with_resources(R"({"memory": {"limit": 200, "swap": 100}})")) ==
        "config.json: linux.resources.memory.swap: is memory and swap together: it must not be below the limit of "
        "memory");
  CHECK(limits_of(R"({"memory": {"limit": 200, "swap": -1}})").memory_and_swap == -1);
}

TEST_CASE("what cgroup v2 does not have is passed over with a warning") {
  Container container =
      good(with_resources(R"({"memory": {"kernel": 5, "kernelTCP": -1, "swappiness": 60, "disableOOMKiller": true,
    "useHierarchy": true}, "blockIO": {"leafWeight": 10}})"));
  CHECK(container.plan.cgroup.limits == Limits{});
  REQUIRE(container.warnings.size() == 5);
  CHECK(container.warnings[0] == "linux.resources.memory.kernel: ignored: cgroup v2 does not have it");
  Container quiet = good(with_resources(R"({"memory": {"disableOOMKiller": false, "checkBeforeUpdate": true}})"));
  CHECK(quiet.warnings.empty());
  CHECK(quiet.plan.cgroup.limits.check_usage);
}

TEST_CASE("limits that only some hosts have, and their empty forms") {
  CHECK(limits_of(R"({"hugepageLimits": [], "network": {}, "rdma": {}, "blockIO": {"weightDevice": []}})") == Limits{});
  Limits wanted;
  wanted.realtime_runtime = 950000, wanted.realtime_period = 1000000;
  wanted.io_weights = {{{8, 0}, 500}};
  wanted.hugepages = {{"2MB", 0}};
  wanted.rdma = {{"mlx5_1", {3, {}}}};
  wanted.network_class = 1048577;
  wanted.network_priorities = {{"eth0", 500}};
  CHECK(limits_of(R"({"cpu": {"realtimeRuntime": 950000, "realtimePeriod": 1000000},
    "blockIO": {"weightDevice": [{"major": 8, "minor": 0, "weight": 500}, {"major": 8, "minor": 16, "weight": 0}]}, "hugepageLimits": [{"pageSize": "2MB", "limit": 0}],
    "rdma": {"mlx5_1": {"hcaHandles": 3}}, "network": {"classID": 1048577, "priorities": [{"name": "eth0", "priority": 500}]}})") == wanted);
  CHECK(mistakes(with_resources(R"({"blockIO": {"weight": 5, "weightDevice": [{"major": 8, "weight": 500}]}, "hugepageLimits": [{"pageSize": "../2MB", "limit": 0}],
    "rdma": {"a b": {}}, "network": {"priorities": [{"name": "../x", "priority": 500}]}})")) ==
        "config.json: linux.resources.blockIO.weight: must be a number from 10 to 1000, not 5\n"
        "config.json: linux.resources.blockIO.weightDevice[0].minor: is missing\n"
        "config.json: linux.resources.hugepageLimits[0].pageSize: must be a size such as 2MB, not '../2MB'\n"
        "config.json: linux.resources.rdma['a b']: is not the name of a device\n"
        "config.json: linux.resources.network.priorities[0].name: must be the name of an interface, not '../x'");
}

TEST_CASE("a file of the unified hierarchy is a name with a controller, and never a path") {
  for (const char* name : {"../memory.max", "memory", ".max", "a/b.c", ""}) {
    Json config = with_resources("{}");
    config["linux"]["resources"]["unified"][name] = "1";
    CHECK(mistakes(config).find("must be the name of a cgroup file such as memory.high") != std::string::npos);
  }
}

TEST_CASE("device rules keep their order, and runc's defaults follow them") {
  std::vector<DeviceRule> rules = limits_of(R"({"devices": [{"allow": false, "access": "rwm"},
    {"allow": true, "type": "c", "major": 10, "minor": 229, "access": "rw"}, {"allow": true, "type": "b", "major": 8, "minor": -1, "access": "r"}]})")
                                      .devices;
  REQUIRE(rules.size() == 13);
  CHECK(rules[0] == DeviceRule{false, 'a', {}, {}, "rwm"});
  CHECK(rules[1] == DeviceRule{true, 'c', 10, 229, "rw"});
  CHECK(rules[2] == DeviceRule{true, 'b', 8, {}, "r"});
  CHECK(rules[3] == DeviceRule{true, 'c', {}, {}, "m"});
  CHECK(rules[4] == DeviceRule{true, 'b', {}, {}, "m"});
  CHECK(rules[5] == DeviceRule{true, 'c', 1, 3, "rwm"});
  CHECK(rules[11] == DeviceRule{true, 'c', 136, {}, "rwm"});
  CHECK(rules[12] == DeviceRule{true, 'c', 5, 2, "rwm"});
  CHECK(limits_of(R"({"devices": []})").devices.empty());
}

TEST_CASE("a default device that the config replaces is not let through by the defaults") {
  Json config = with_resources(R"({"devices": [{"allow": false, "access": "rwm"}]})");
  config["linux"]["devices"] = Json::parse(R"([{"path": "/dev/tty", "type": "c", "major": 4, "minor": 1}])");
  for (const DeviceRule& rule : good(config).plan.cgroup.limits.devices) CHECK(!(rule.major == 5 && rule.minor == 0));
}

TEST_CASE("device rules that cannot be are refused") {
  CHECK(
      mistakes(with_resources(
          R"({"devices": [{"allow": true}, {"allow": true, "access": ""}, {"type": "p", "access": "r", "major": -2}]})")) ==
      "config.json: linux.resources.devices[0].access: is missing\n"
      "config.json: linux.resources.devices[1].access: must be of the letters r, w and m, and is empty\n"
      "config.json: linux.resources.devices[2].type: must be a, b or c, not 'p'\n"
      "config.json: linux.resources.devices[2].major: must be a number from -1 to 4294967295, not -2");
}

TEST_CASE("an update names only what changes") {
  std::vector<std::string> warnings;
  Diagnostics wrong;
  auto limits = read_resources(R"({"memory": {"swap": 100}, "pids": {"limit": 7}})", "resources", warnings, wrong);
  REQUIRE(limits);
  Limits wanted;
  wanted.memory_and_swap = 100;  // the limit of memory was set before
  wanted.pids = 7;
  CHECK(*limits == wanted);
  CHECK(!read_resources("[]", "resources", warnings, wrong));
  CHECK(wrong.text() == "resources: must be an object, not a list");
}
