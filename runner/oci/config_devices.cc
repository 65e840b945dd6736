// Device nodes, and the rules by which the cgroup lets processes use them.
#include <sys/stat.h>

#include <algorithm>

#include "runner/oci/config_parts.h"

namespace runner::oci {

using isolate::Device;
using isolate::DeviceRule;
using json::in_quotes;

namespace {

// The specification's default devices, in runc's order.
const Device kDefaultDevices[] = {
    {"/dev/null", 'c', 1, 3}, {"/dev/random", 'c', 1, 8}, {"/dev/full", 'c', 1, 7},
    {"/dev/tty", 'c', 5, 0},  {"/dev/zero", 'c', 1, 5},   {"/dev/urandom", 'c', 1, 9},
};

enum class Dev { None, Bound, Fresh };

Dev what_is_dev(const isolate::Plan& plan) {
  Dev dev = Dev::None;
  for (const isolate::Mount& mount : plan.mounts)
    if (mount.to == "/dev") dev = std::holds_alternative<isolate::Bind>(mount.what) ? Dev::Bound : Dev::Fresh;
  return dev;
}

void read_device(json::Value entry, isolate::Plan& to) {
  Device device;
  std::string type, path;
  bool complete = entry["path"].require(path) & entry["type"].require(type);
  if (type == "u") type = "c";
  if (complete && type != "c" && type != "b" && type != "p") {
    entry["type"].wrong("must be c, b, u or p, not {}", in_quotes(type));
    complete = false;
  }
  if (complete && type != "p") complete = entry["major"].require(device.major) & entry["minor"].require(device.minor);
  entry["fileMode"].read(device.mode);
  entry["uid"].read(device.uid, 0u, kLastId);
  entry["gid"].read(device.gid, 0u, kLastId);
  device.mode &= ~std::uint32_t{S_IFMT};
  if (!complete) return;
  device.type = type[0];
  device.path = absolute_path(entry["path"], path);
  to.devices.push_back(std::move(device));
}

bool has_device_at(const isolate::Plan& plan, const std::string& path) {
  return std::any_of(plan.devices.begin(), plan.devices.end(),
                     [&](const Device& device) { return device.path == path; });
}

}  // namespace

void read_devices(json::Value linux, Container& to) {
  isolate::Plan& plan = to.plan;
  json::Value list = linux["devices"].array();
  for (json::Value each : list.values())
    if (json::Value entry = each.object()) read_device(entry, plan);
  Dev dev = what_is_dev(plan);
  if (dev == Dev::Bound) {
    // Making them would make them in that directory of the host.
    if (!plan.devices.empty()) warn(to.warnings, "{}: ignoring the devices: /dev is a bind", list.name());
    plan.devices.clear();
  }
  if (dev != Dev::Fresh) return;
  std::vector<Device> defaults;
  for (const Device& device : kDefaultDevices)
    if (!has_device_at(plan, device.path)) defaults.push_back(device);
  plan.devices.insert(plan.devices.begin(), defaults.begin(), defaults.end());
}

void read_device_rules(json::Value resources, std::vector<DeviceRule>& to) {
  for (json::Value each : resources["devices"].array().values()) {
    json::Value entry = each.object();
    if (!entry) continue;
    DeviceRule rule;
    std::string type = "a", access;
    entry["allow"].read(rule.allow);
    if (entry["type"].read(type) && type.empty()) type = "a";
    if (type != "a" && type != "b" && type != "c") entry["type"].wrong("must be a, b or c, not {}", in_quotes(type));
    rule.type = type[0];
    constexpr std::int64_t kAny = -1, kLargest = 0xffffffff;
    for (auto [key, number] : {std::pair{"major", &rule.major}, std::pair{"minor", &rule.minor}})
      if (entry[key].read(*number, kAny, kLargest) && **number == kAny) number->reset();
    if (entry["access"].require(access) && access.empty()) entry["access"].wrong("must be of the letters r, w and m, and is empty");
    std::erase_if(access, [](char c) { return c != 'r' && c != 'w' && c != 'm'; });  // as runc does
    rule.access = access;
    to.push_back(std::move(rule));
  }
}

// As runc: whatever the list says, every node may be made, and the default devices and terminals used.
void add_default_device_rules(const isolate::Plan& plan, std::vector<DeviceRule>& to) {
  auto redefined = [&](const Device& device) {
    return std::any_of(plan.devices.begin(), plan.devices.end(),
                       [&](const Device& d) { return d.path == device.path && d != device; });
  };
  to.push_back({true, 'c', {}, {}, "m"});
  to.push_back({true, 'b', {}, {}, "m"});
  for (const Device& device : kDefaultDevices)
    if (!redefined(device)) to.push_back({true, 'c', device.major, device.minor, "rwm"});
  to.push_back({true, 'c', 136, {}, "rwm"});  // terminals of devpts
  to.push_back({true, 'c', 5, 2, "rwm"});     // ptmx
}

}  // namespace runner::oci
