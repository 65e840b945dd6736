// Limits that need cgroup controllers: they hold, and the last event names the one that was met with its counter. The suite runs
// natively (on a hybrid host through the v1 controllers) and in the VM with cgroup v2:
//   scripts/vm --env PROBE=... -- build/kernel-tests --test-suite=limits
#include <doctest/doctest.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

#include "isolate/cgroup.h"
#include "isolate/sys/file.h"
#include "tests/kernel/live.h"

using namespace tests;
using nlohmann::json;

namespace {

constexpr std::int64_t kMegabyte = 1 << 20;

bool has(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

// The event, the evidence and the words for a person must all agree.
void check_told(const Session& s, const std::string& limit, const std::string& counter_file) {
  auto reached = find(s.events, "limit.reached");
  REQUIRE(reached);
  const json& data = reached->at("data");
  CHECK(data["limit"] == limit);
  CHECK(data["evidence"]["counter"].get<std::uint64_t>() >= 1);
  CHECK_MESSAGE(has(data["evidence"]["source"], counter_file), data.dump());
  CHECK(s.ran.err.find("the " + limit + " limit of ") != std::string::npos);
  CHECK(remains_of(s.id) == "");
}

// A file of a container's group in whichever hierarchy has it.
std::string group_file(const std::string& id, const std::string& controller, const std::string& v1_file, const std::string& v2_file) {
  isolate::CgroupHost host = isolate::find_cgroup_host();
  auto v1 = host.v1.find(controller);
  return v1 == host.v1.end() ? read(host.v2 + host.v2_base + "/" + id + "/" + v2_file) : read(v1->second + "/" + id + "/" + v1_file);
}

struct Running {
  Bundle bundle{{"sleep", "60"}};
  Box box;
  Ran ran;
  explicit Running(const json& resources) {
    bundle.config["linux"]["resources"] = resources;
    bundle.save();
    ran = runner_apart({"run", "-d", "-b", bundle.path(), box.id}, bundle);
  }
};

}  // namespace

TEST_SUITE("limits") {
  TEST_CASE("a program that takes more memory than it may have is killed, and the last event says oom-kill") {
    SKIP_UNLESS(is_root() && has_controller("memory"), "the memory controller");
    Session s = session({"-m", "64M"}, {"/probe", "eat-memory", "512"});
    CHECK(s.result() == "oom-kill");
    CHECK(s.ran.code == 137);
    CHECK(s.end["evidence"]["counter"].get<int>() >= 1);
    CHECK(s.end["memory_peak"].get<std::int64_t>() <= 65 * kMegabyte);
    CHECK(s.end["memory_peak"].get<std::int64_t>() >= 48 * kMegabyte);
    check_told(s, "memory", "memory.");
    CHECK(find(s.events, "limit.reached")->at("data")["value"] == 64 * kMegabyte);
  }

  TEST_CASE("below its limit a program has its memory") {
    SKIP_UNLESS(is_root() && has_controller("memory"), "the memory controller");
    Session s = session({"-m", "128M"}, {"/probe", "eat-memory", "64"});
    CHECK(s.result() == "success");
    CHECK(s.facts["touched"] == "64");
    CHECK(!find(s.events, "limit.reached"));
    CHECK(s.end["memory_peak"].get<std::int64_t>() >= 60 * kMegabyte);
  }

  TEST_CASE("files in memory and many small processes count as well") {
    SKIP_UNLESS(is_root() && has_controller("memory"), "the memory controller");
    Session shm = session({"-m", "32M"}, {"/probe", "eat-shm", "60"});
    CHECK(shm.result() == "oom-kill");
    check_told(shm, "memory", "memory.");
    Session tmpfs = session({"-m", "32M", "--tmpfs", "/t:size=200M"}, {"/probe", "eat-tmpfs", "/t", "150"});
    CHECK(tmpfs.result() == "oom-kill");
    Session many = session({"-m", "64M"}, {"/probe", "eat-together", "400", "8"});
    CHECK(many.result() == "oom-kill");
    check_told(many, "memory", "memory.");
  }

  TEST_CASE("a tmpfs ends at its own size before the memory limit") {
    SKIP_UNLESS(is_root() && has_controller("memory"), "the memory controller");
    Session s = session({"-m", "256M"}, {"/probe", "eat-shm", "100"});
    CHECK(s.facts["error"] == "ENOSPC");
    CHECK(s.facts["written"] == "64");
    CHECK(s.result() == "exit-code");
  }

  TEST_CASE("a session whose child was killed for memory and that goes on, says both") {
    SKIP_UNLESS(is_root() && has_controller("memory"), "the memory controller");
    Session s = session({"-m", "64M"}, {"sh", "-c", "/probe eat-memory 512; echo alive"});
    CHECK(s.result() == "success");
    CHECK(has(s.out, "alive"));
    check_told(s, "memory", "memory.");
  }

  TEST_CASE("a fork over the limit is refused, and a program that gives up for it ends as pids-limit") {
    SKIP_UNLESS(is_root() && has_controller("pids"), "the pids controller");
    Session s = session({"--pids-limit", "24"}, {"/probe", "fork-bomb"});
    CHECK(s.result() == "pids-limit");
    CHECK(s.ran.code == 1);
    CHECK(s.facts["error"] == "EAGAIN");
    int children = std::stoi(s.facts["children"]);
    CHECK(children <= 22);  // itself and PID 1 count
    CHECK(children >= 20);
    CHECK(s.end["evidence"]["counter"].get<int>() >= 1);
    check_told(s, "pids", "pids.");
    CHECK(session({"--pids-limit", "24"}, {"/probe", "fork-bomb", "10"}).result() == "success");
    CHECK(session({"--pids-limit", "24"}, {"/probe", "threads", "100"}).result() == "pids-limit");
  }

  TEST_CASE("a fork bomb that never ends is stopped by us, within seconds, and nothing is left") {
    SKIP_UNLESS(is_root() && has_controller("pids"), "the pids controller");
    Session s = session({"--pids-limit", "64", "--timeout", "60s"}, {"/probe", "fork-bomb-spin"});
    CHECK(s.result() == "pids-limit");
    CHECK(s.ran.code == 137);
    CHECK(s.end["ms"].get<int>() < 20'000);
    check_told(s, "pids", "pids.");
    CHECK(processes_with("fork-bomb-spin").empty());
  }

  TEST_CASE("a program gets no more of the CPU than --cpus says") {
    SKIP_UNLESS(is_root() && has_controller("cpu"), "the cpu controller");
    Session s = session({"--cpus", "0.4"}, {"/probe", "spin", "1.5", "2"});
    CHECK(s.result() == "success");
    double share = s.end["cpu_us"].get<double>() / 1e3 / s.end["ms"].get<double>();
    CHECK(share <= 0.4 * 1.25);
    CHECK(share >= 0.05);
  }

  TEST_CASE("a container's memory, pids and cpu limits are set and hold") {
    SKIP_UNLESS(is_root() && has_controller("memory") && has_controller("pids") && has_controller("cpu"), "memory, pids and cpu controllers");
    Running c(json{{"memory", {{"limit", 64 * kMegabyte}}}, {"pids", {{"limit", 20}}}, {"cpu", {{"quota", 30000}, {"period", 100000}, {"shares", 512}}}});
    INFO(c.ran.err);
    REQUIRE(c.ran.code == 0);
    CHECK(group_file(c.box.id, "memory", "memory.limit_in_bytes", "memory.max") == std::to_string(64 * kMegabyte) + "\n");
    CHECK(group_file(c.box.id, "pids", "pids.max", "pids.max") == "20\n");
    std::string cpu = group_file(c.box.id, "cpu", "cpu.cfs_quota_us", "cpu.max");
    CHECK((cpu == "30000\n" || cpu == "30000 100000\n"));
    Ran forks = runner({"exec", c.box.id, "probe", "fork-bomb"});
    CHECK(facts_of(forks.out)["error"] == "EAGAIN");
    CHECK(runner({"exec", c.box.id, "probe", "eat-memory", "400"}).code == 137);
  }

  TEST_CASE("a container without limits can be given any later, and an exec finds a group that takes it") {
    SKIP_UNLESS(is_root() && on_cgroup_v2() && has_controller("memory") && has_controller("cpu"), "cgroup v2 with controllers");
    Running c(json::object());
    REQUIRE(c.ran.code == 0);
    auto file = [&](const char* name) { return group_file(c.box.id, "", "", name); };
    CHECK(file("cgroup.controllers") == read("/sys/fs/cgroup/cgroup.controllers"));
    CHECK(runner({"update", "--cpu-period", "50000", c.box.id}).code == 0);
    CHECK(file("cpu.max") == "max 50000\n");
    CHECK(runner({"update", "--cpu-share", "100", c.box.id}).code == 0);
    CHECK(file("cpu.weight") == "17\n");

    auto low = [&](const char* memory) { return runner({"update", "-r", "-", c.box.id}, {.input = memory}); };
    Ran refused = low(R"({"memory": {"limit": 4096, "checkBeforeUpdate": true}})");
    CHECK(refused.code == 1);
    CHECK(has(refused.err, "rejecting memory limit 4096 <= usage "));
    CHECK(has(low(R"({"memory": {"limit": 4096, "swap": 4096, "checkBeforeUpdate": true}})").err, "rejecting memory+swap limit 4096 <= usage "));
    CHECK(c.box.status() == "running");
    CHECK(low(R"({"memory": {"limit": 104857600, "checkBeforeUpdate": true}})").code == 0);

    // Processes are in the leaves only: where controllers are given to a group below, an exec goes to the leaf that PID 1 has gone to.
    isolate::CgroupHost host = isolate::find_cgroup_host();
    std::string leaf = host.v2 + host.v2_base + "/" + c.box.id + "/leaf";
    auto where = [&] { return runner({"exec", c.box.id, "cat", "/proc/self/cgroup"}).out; };
    REQUIRE(::mkdir(leaf.c_str(), 0755) == 0);
    isolate::sys::write_file(leaf + "/cgroup.procs", std::to_string(c.box.state()["pid"].get<int>()));
    CHECK(!has(where(), "/leaf"));
    isolate::sys::write_file(leaf + "/../cgroup.subtree_control", "+memory");
    CHECK(has(where(), "/leaf"));
    Ran asked = runner({"exec", "--cgroup", "/", c.box.id, "true"});
    CHECK(asked.code == 255);
    CHECK(has(asked.err, "/cgroup.procs: device or resource busy (it gives controllers to groups below it"));
  }

  TEST_CASE("a container below a group with processes runs, and has no controller there") {
    SKIP_UNLESS(is_root() && on_cgroup_v2() && has_controller("memory"), "cgroup v2 with controllers");
    Running c(json::object());
    REQUIRE(c.ran.code == 0);
    Bundle below({"cat", "/sys/fs/cgroup/cgroup.controllers"});
    below.config["linux"]["cgroupsPath"] = "/" + c.box.id + "/below";
    below.save();
    Ran ran = below.run();
    INFO(ran.err);
    CHECK(ran.code == 0);
    CHECK((ran.out == "" || ran.out == "\n"));
    CHECK(group_file(c.box.id, "", "", "cgroup.type") == "domain\n");
  }

  TEST_CASE("a container that joins the namespaces of another, that of cgroups too, is in a group of its own") {
    SKIP_UNLESS(is_root(), "root");
    auto shift = [](Bundle& bundle, const std::string& from) {
      json& to = bundle.config["linux"];
      if (from.empty()) to["uidMappings"] = to["gidMappings"] = json::parse(R"([{"containerID": 0, "hostID": 100000, "size": 65536}])");
      to["namespaces"] = json::array({{{"type", "mount"}}});
      for (const char* kind : {"user", "pid", "ipc", "uts", "cgroup", "network"}) {
        json& one = to["namespaces"].emplace_back(json{{"type", kind}});
        if (!from.empty()) one["path"] = from + (std::string(kind) == "network" ? "net" : kind);
      }
      bundle.save();
    };
    Bundle first({"sleep", "60"}), second({"sleep", "61"});
    Box one, two;
    shift(first, "");
    REQUIRE(runner_apart({"run", "-d", "-b", first.path(), one.id}, first).code == 0);
    shift(second, "/proc/" + std::to_string(one.state()["pid"].get<int>()) + "/ns/");
    Ran ran = runner_apart({"run", "-d", "-b", second.path(), two.id}, second);
    INFO(ran.err);
    REQUIRE(ran.code == 0);
    CHECK(has(read("/proc/" + std::to_string(two.state()["pid"].get<int>()) + "/cgroup"), "/" + two.id + "\n"));
    CHECK(has(runner({"exec", two.id, "cat", "/proc/self/uid_map"}).out, "100000"));
  }

  TEST_CASE("a container's cpuset is what its program sees") {
    SKIP_UNLESS(is_root() && has_controller("cpuset"), "the cpuset controller");
    Running c(json::parse(R"({"cpu": {"cpus": "0", "mems": "0"}})"));
    INFO(c.ran.err);
    REQUIRE(c.ran.code == 0);
    CHECK(has(runner({"exec", c.box.id, "cat", "/proc/self/status"}).out, "Cpus_allowed_list:\t0\n"));
    CHECK(has(read("/proc/" + std::to_string(c.box.state()["pid"].get<int>()) + "/status"), "Cpus_allowed_list:\t0\n"));
  }

  TEST_CASE("devices that the configuration does not allow cannot be opened, whoever asks") {
    SKIP_UNLESS(is_root() && !isolate::find_cgroup_host().v2.empty(), "a v2 hierarchy");
    Bundle bundle({"sh", "-c", "probe open r /dev/null /dev/zero /dev/own; probe open w /dev/null; probe mknod /tmp/n c 1 5; probe mknod /tmp/m c 1 7; probe open r /tmp/n"});
    bundle.config["linux"]["devices"] = {{{"path", "/dev/own"}, {"type", "c"}, {"major", 10}, {"minor", 200}}};
    bundle.config["linux"]["resources"]["devices"] = {{{"allow", false}, {"access", "rwm"}},
                                                      {{"allow", true}, {"type", "c"}, {"major", 1}, {"minor", 7}, {"access", "m"}}};
    for (const char* set : {"bounding", "effective", "permitted"}) bundle.config["process"]["capabilities"][set].push_back("CAP_MKNOD");
    bundle.config["root"]["readonly"] = false;
    bundle.config["mounts"].push_back({{"destination", "/tmp"}, {"type", "tmpfs"}, {"source", "tmpfs"}});
    bundle.save();
    Ran ran = bundle.run();
    INFO(ran.err);
    CHECK(ran.code == 0);
    Facts facts = facts_of(ran.out);
    CHECK(facts["/dev/null"] == "0");   // the specification's own devices are always allowed
    CHECK(facts["/dev/zero"] == "0");
    CHECK(facts["/dev/own"] == "EPERM");
    CHECK(has(ran.out, "mknod=0\n"));
  }

  TEST_CASE("files of `unified` are written as they stand on v2, and refused by name where they cannot be") {
    SKIP_UNLESS(is_root() && has_controller("memory"), "the memory controller");
    Running c(json::parse(R"({"unified": {"memory.high": "50331648"}})"));
    INFO(c.ran.err);
    if (on_cgroup_v2()) {
      REQUIRE(c.ran.code == 0);
      CHECK(group_file(c.box.id, "memory", "", "memory.high") == "50331648\n");
    } else {
      CHECK(c.ran.code == 1);
      CHECK(has(c.ran.err, "memory.high"));
      CHECK(remains_of(c.box.id) == "");
    }
  }

  TEST_CASE("a container's io limits are set for its disk") {
    SKIP_UNLESS(is_root() && has_controller("io"), "the io controller");
    SKIP_UNLESS(on_cgroup_v2(), "cgroup v2 for io.max");
    struct stat info;
    REQUIRE(::stat("/tmp", &info) == 0);
    std::string disk = std::filesystem::canonical("/sys/dev/block/" + std::to_string(major(info.st_dev)) + ":" + std::to_string(minor(info.st_dev)));
    SKIP_UNLESS(exists(disk), "a disk below /tmp");
    json rate{{"major", major(info.st_dev)}, {"minor", minor(info.st_dev)}, {"rate", 1048576}};
    json resources;
    resources["blockIO"]["throttleWriteBpsDevice"] = json::array({rate});
    Running c(resources);
    INFO(c.ran.err);
    REQUIRE(c.ran.code == 0);
    std::string limits = group_file(c.box.id, "blkio", "", "io.max");
    CHECK(has(limits, std::to_string(major(info.st_dev)) + ":" + std::to_string(minor(info.st_dev)) + " "));
    CHECK(has(limits, "wbps=1048576"));
  }

  TEST_CASE("a policy with on_missing: error does not start what cannot be limited, and `warn` names each limit") {
    SKIP_UNLESS(is_root(), "root, to become a user without cgroups");
    Folder home;
    home.write("strict.yaml", "version: 1\nextends: default\non_missing: error\n");
    REQUIRE(::chown(home.path().c_str(), 1234, 1234) == 0);
    How how{.env = {{"HOME", home.path()}, {"XDG_RUNTIME_DIR", home.path()}, {"XDG_DATA_HOME", ""}, {"RUNNER_DATA", ""}}, .cwd = home.path(), .uid = 1234};
    Ran refused = runner({"run", "--rm", "--policy", home / "strict.yaml", "--", "true"}, how);
    CHECK(refused.code == 125);
    CHECK(has(refused.err, "memory limit"));
    CHECK(has(refused.err, "on_missing: warn"));
    Ran warned = runner({"run", "--rm", "--", "true"}, how);
    CHECK(warned.code == 0);
    std::string missing;
    for (const json& event : events_of(warned.out))
      if (event["type"] == "limit.missing") missing += event["data"]["limit"].get<std::string>() + ";";
    CHECK(missing == "memory limit;pids limit;cpu limit;");
    CHECK(has(warned.err, "the memory limit is not in force"));
  }
}
