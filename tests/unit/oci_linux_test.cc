// The `linux` object: namespaces, ids, devices, paths, kernel parameters.
#include <sys/mount.h>

#include "tests/unit/oci_support.h"

using namespace runner;
using namespace runner::oci;
using namespace runner::oci::test;
using isolate::NamespaceKind;

namespace {

Json with_dev(const std::string& type = "tmpfs") {
  Json config = plain_config();
  config["mounts"] =
      Json::array({{{"destination", "/dev"}, {"type", type}, {"source", type == "bind" ? "/dev" : type}}});
  return config;
}

std::vector<std::string> paths_of(const std::vector<isolate::Device>& devices) {
  std::vector<std::string> paths;
  for (const isolate::Device& device : devices) paths.push_back(device.path);
  return paths;
}

Json with_sysctl(const std::string& key, const std::vector<std::string>& namespaces) {
  Json config = plain_config();
  for (const std::string& kind : namespaces) add_namespace(config, kind);
  config["linux"]["sysctl"] = {{key, "1"}};
  return config;
}

}  // namespace

TEST_CASE("namespaces of all kinds are made, or joined by path") {
  Json config = plain_config();
  for (const char* kind : {"network", "ipc", "uts", "cgroup", "time"}) add_namespace(config, kind);
  config["linux"]["namespaces"][2]["path"] = "/run/netns/a";
  CHECK(good(config).plan.namespaces == std::vector<isolate::Namespace>{{NamespaceKind::Mount, ""},
                                                                        {NamespaceKind::Pid, ""},
                                                                        {NamespaceKind::Network, "/run/netns/a"},
                                                                        {NamespaceKind::Ipc, ""},
                                                                        {NamespaceKind::Uts, ""},
                                                                        {NamespaceKind::Cgroup, ""},
                                                                        {NamespaceKind::Time, ""}});
}

TEST_CASE("namespaces that cannot be are refused") {
  Json config = plain_config();
  add_namespace(config, "pid");
  add_namespace(config, "net");
  add_namespace(config, "ipc", "relative");
  CHECK(mistakes(config) ==
        "config.json: linux.namespaces[2].type: pid is there twice\n"
        "config.json: linux.namespaces[3].type: must be a kind of namespace such as pid or network, not 'net'\n"
        "config.json: linux.namespaces[4].path: must be an absolute path, not 'relative'");
  config["linux"]["namespaces"] = Json::array();
  CHECK(mistakes(config) == "config.json: linux.namespaces: must have a mount namespace");
  add_namespace(config, "mount", "/proc/1/ns/mnt");
  CHECK(mistakes(config) ==
        "config.json: linux.namespaces: must make its own mount namespace: '/proc/1/ns/mnt' cannot be joined");
}

TEST_CASE("a new user namespace has maps, and only it") {
  Json config = plain_config();
  add_namespace(config, "user");
  CHECK(mistakes(config) ==
        "config.json: linux.uidMappings: is missing: a new user namespace needs it\n"
        "config.json: linux.gidMappings: is missing: a new user namespace needs it");
  config["linux"]["uidMappings"] =
      Json::parse(R"([{"containerID": 0, "hostID": 1000, "size": 1}, {"containerID": 1, "hostID": 2000, "size": 9}])");
  config["linux"]["gidMappings"] = Json::parse(R"([{"containerID": 0, "hostID": 1000, "size": 10}])");
  CHECK(good(config).plan.ids == isolate::IdMap{{{0, 1000, 1}, {1, 2000, 9}}, {{0, 1000, 10}}});

  config["linux"]["namespaces"][2]["path"] = "/proc/5/ns/user";
  Container container = good(config);
  CHECK(container.plan.ids.empty());
  CHECK(container.warnings.size() == 1);

  config["linux"]["namespaces"].erase(2);
  CHECK(mistakes(config) ==
        "config.json: linux.uidMappings: is for a new user namespace, and there is none\n"
        "config.json: linux.gidMappings: is for a new user namespace, and there is none");
  LoadOptions ordinary = plain_options();
  ordinary.privileged = false;
  CHECK(mistakes(plain_config(), ordinary) ==
        "config.json: linux.namespaces: must have a user namespace: only root can do without");
}

TEST_CASE("id maps that the kernel would refuse are refused before") {
  Json config = plain_config();
  add_user_namespace(config);
  auto said = [&](const char* map) {
    config["linux"]["uidMappings"] = Json::parse(map);
    return mistakes(config);
  };
  CHECK(said(R"([{"containerID": 0, "hostID": 0, "size": 0}])") ==
        "config.json: linux.uidMappings[0].size: must be a number from 1 to 4294967295, not 0");
  CHECK(said(R"([{"containerID": 0, "hostID": 4294967294, "size": 2}])") ==
        "config.json: linux.uidMappings[0]: goes beyond the last id");
  CHECK(said(R"([{"containerID": 0, "hostID": 10, "size": 5}, {"containerID": 4, "hostID": 100, "size": 5}])") ==
        "config.json: linux.uidMappings: has ranges that overlap");
  CHECK(said(R"([{"containerID": 0, "hostID": 14, "size": 5}, {"containerID": 9, "hostID": 10, "size": 5}])") ==
        "config.json: linux.uidMappings: has ranges that overlap");
  CHECK(said(R"([{"containerID": 0}])") ==
        "config.json: linux.uidMappings[0].hostID: is missing\nconfig.json: linux.uidMappings[0].size: is missing");
  Json many = Json::array();
  for (int i = 0; i < 341; ++i) many.push_back({{"containerID", i}, {"hostID", i}, {"size", 1}});
  config["linux"]["uidMappings"] = many;
  CHECK(mistakes(config) == "config.json: linux.uidMappings: must not have more than 340 entries");
}

TEST_CASE("the process's ids must be mapped") {
  Json config = plain_config();
  add_user_namespace(config);
  config["process"]["user"] = {{"uid", 1000}, {"gid", 999}, {"additionalGids", {5000}}};
  CHECK(mistakes(config) ==
        "config.json: process.user.uid: 1000 is not mapped in the user namespace\n"
        "config.json: process.user.additionalGids: 5000 is not mapped in the user namespace");
}

TEST_CASE("the default devices are made in a fresh /dev only") {
  CHECK(good(plain_config()).plan.devices.empty());
  CHECK(good(with_dev("bind")).plan.devices.empty());
  CHECK(paths_of(good(with_dev()).plan.devices) ==
        std::vector<std::string>{"/dev/null", "/dev/random", "/dev/full", "/dev/tty", "/dev/zero", "/dev/urandom"});
}

TEST_CASE("devices of the config are made too, and instead of a default one at the same place") {
  Json config = with_dev();
  config["linux"]["devices"] = Json::parse(R"([
    {"path": "/dev/fuse", "type": "c", "major": 10, "minor": 229, "fileMode": 33206, "uid": 5, "gid": 6},
    {"path": "/dev/pipe", "type": "p"}, {"path": "/dev/tty", "type": "u", "major": 4, "minor": 1}])");
  std::vector<isolate::Device> devices = good(config).plan.devices;
  REQUIRE(devices.size() == 8);
  CHECK(devices[5] == isolate::Device{"/dev/fuse", 'c', 10, 229, 0666, 5, 6});
  CHECK(devices[6] == isolate::Device{"/dev/pipe", 'p', 0, 0, 0666, 0, 0});
  CHECK(devices[7] == isolate::Device{"/dev/tty", 'c', 4, 1, 0666, 0, 0});

  config["mounts"][0]["type"] = "bind";
  Container container = good(config);
  CHECK(container.plan.devices.empty());  // or they would be made in the host's directory
  CHECK(container.warnings == std::vector<std::string>{"linux.devices: ignoring the devices: /dev is a bind"});
}

TEST_CASE("devices that cannot be are refused") {
  Json config = with_dev();
  config["linux"]["devices"] =
      Json::parse(R"([{"path": "dev/x", "type": "c", "major": 1, "minor": 1}, {"path": "/dev/x", "type": "x"},
    {"path": "/dev/x", "type": "c", "major": -1}, {"type": "p"}])");
  CHECK(mistakes(config) ==
        "config.json: linux.devices[0].path: must be an absolute path, not 'dev/x'\n"
        "config.json: linux.devices[1].type: must be c, b, u or p, not 'x'\n"
        "config.json: linux.devices[2].major: must be a number from 0 to 4294967295, not -1\n"
        "config.json: linux.devices[2].minor: is missing\n"
        "config.json: linux.devices[3].path: is missing");
}

TEST_CASE("paths to hide are absolute") {
  Json config = plain_config();
  config["linux"]["maskedPaths"] = {"/proc/kcore", "/sys//firmware/"};
  config["linux"]["readonlyPaths"] = {"/proc/sys"};
  isolate::Plan plan = good(config).plan;
  CHECK(plan.masked_paths == std::vector<std::string>{"/proc/kcore", "/sys/firmware"});
  CHECK(plan.readonly_paths == std::vector<std::string>{"/proc/sys"});
  config["linux"]["maskedPaths"] = {"proc/kcore", "/proc/../etc"};
  CHECK(mistakes(config) ==
        "config.json: linux.maskedPaths[0]: must be an absolute path, not 'proc/kcore'\n"
        "config.json: linux.maskedPaths[1]: must not contain '..', as '/proc/../etc' does");
}

TEST_CASE("the root's propagation is one of the words for it") {
  Json config = plain_config();
  config["linux"]["rootfsPropagation"] = "slave";
  CHECK(good(config).plan.root.propagation == MS_SLAVE);
  config["linux"]["rootfsPropagation"] = "rshared";
  CHECK(good(config).plan.root.propagation == (MS_SHARED | MS_REC));
  config["linux"]["rootfsPropagation"] = "ro";
  CHECK(mistakes(config) ==
        "config.json: linux.rootfsPropagation: must be shared, slave, private or unbindable, not 'ro'");
  LoadOptions no_pivot = plain_options();
  no_pivot.no_pivot = true;
  config["linux"]["rootfsPropagation"] = "private";
  CHECK(mistakes(config, no_pivot) == "config.json: linux.rootfsPropagation: private is not safe without pivot_root");
  CHECK(!good(plain_config(), no_pivot).plan.root.pivot);
}

TEST_CASE("kernel parameters of the container's own namespaces may be set") {
  CHECK(good(with_sysctl("kernel.shmmax", {"ipc"})).plan.sysctl.at("kernel.shmmax") == "1");
  CHECK(good(with_sysctl("fs.mqueue.msg_max", {"ipc"})).plan.sysctl.size() == 1);
  CHECK(good(with_sysctl("net.ipv4.ip_forward", {"network"})).plan.sysctl.size() == 1);
  CHECK(good(with_sysctl("kernel.domainname", {"uts"})).plan.sysctl.size() == 1);
}

TEST_CASE("a name with slashes is the same parameter") {
  CHECK(good(with_sysctl("net/ipv4/conf/eth0.100/forwarding", {"network"}))
            .plan.sysctl.count("net.ipv4.conf.eth0/100.forwarding") == 1);
  Json config = with_sysctl("net.ipv4.ip_forward", {"network"});
  config["linux"]["sysctl"]["net/ipv4/ip_forward"] = "0";
  CHECK(mistakes(config).find("is there twice, as 'net.ipv4.ip_forward'") != std::string::npos);
}

TEST_CASE("kernel parameters of the host are refused") {
  auto said = [](const std::string& key, const std::vector<std::string>& namespaces) {
    return mistakes(with_sysctl(key, namespaces));
  };
  CHECK(said("kernel.shmmax", {}) ==
        "config.json: linux.sysctl['kernel.shmmax']: is not allowed in the host's ipc namespace");
  CHECK(said("net.core.somaxconn", {"ipc"}) ==
        "config.json: linux.sysctl['net.core.somaxconn']: is not allowed in the host's network namespace");
  CHECK(said("kernel.hostname", {"uts"}) ==
        "config.json: linux.sysctl['kernel.hostname']: is not allowed: it is the same as the field hostname");
  CHECK(said("kernel.core_pattern", {"ipc", "network", "uts"}) ==
        "config.json: linux.sysctl['kernel.core_pattern']: is not in a separate kernel namespace");
  CHECK(said("vm.swappiness", {}) ==
        "config.json: linux.sysctl['vm.swappiness']: is not in a separate kernel namespace");
}

TEST_CASE("a parameter's name cannot lead out of its folder") {
  for (const char* key :
       {"net.//.kernel.core_pattern", "net/../kernel/core_pattern", "net..x", "net./.x", "net.", ".net", ""})
    CHECK(mistakes(with_sysctl(key, {"network"})).find("is not the name of a kernel parameter") != std::string::npos);
}

TEST_CASE("joining the network namespace that we are in counts as the host's") {
  Json config = with_sysctl("net.core.somaxconn", {});
  add_namespace(config, "network", "/proc/self/ns/net");
  CHECK(good(config).plan.sysctl.size() == 1);  // nothing on disk is looked at
  LoadOptions options = plain_options();
  options.look_at_files = true;
  config["root"]["path"] = "/usr";
  CHECK(mistakes(config, options).find("is not allowed in the host's network namespace") != std::string::npos);
}
