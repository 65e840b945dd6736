// cgroupsPath and the `resources` object: limits.
#include <algorithm>

#include "runner/oci/config_parts.h"
#include "runner/oci/resources.h"

namespace runner::oci {

using isolate::IoLimit;
using isolate::Limits;
using json::in_quotes;

namespace {

// -1 is "no limit", and 0 is how Go programs write a limit that nobody asked for.
void read_bytes(json::Value field, std::optional<std::int64_t>& to) {
  if (field.read(to, std::int64_t{-1}) && *to == 0) to.reset();
}

void read_memory(json::Value memory, Limits& to, Warnings& warnings) {
  read_bytes(memory["limit"], to.memory);
  read_bytes(memory["reservation"], to.memory_reservation);
  read_bytes(memory["swap"], to.memory_and_swap);
  if (to.memory == -1 && !to.memory_and_swap) to.memory_and_swap = -1;  // as cgroup v1 had it, and runc keeps it
  auto ignore = [&](const char* key, bool is_set) {
    if (is_set) warn(warnings, "{}: ignored: cgroup v2 does not have it", memory[key].name());
  };
  std::int64_t kernel = 0, kernel_tcp = 0;
  std::uint64_t swappiness = 0;
  bool no_killer = false, hierarchy = true;
  memory["kernel"].read(kernel);
  memory["kernelTCP"].read(kernel_tcp);
  bool has_swappiness = memory["swappiness"].read(swappiness, std::uint64_t{0}, std::uint64_t{100});
  memory["disableOOMKiller"].read(no_killer);
  memory["useHierarchy"].read(hierarchy);
  memory["checkBeforeUpdate"].read(to.check_usage);
  ignore("kernel", kernel != 0);
  ignore("kernelTCP", kernel_tcp != 0);
  ignore("swappiness", has_swappiness);
  ignore("disableOOMKiller", no_killer);
  ignore("useHierarchy", !hierarchy);
}

void read_cpu(json::Value cpu, Limits& to) {
  if (cpu["shares"].read(to.cpu_shares) && *to.cpu_shares == 0) to.cpu_shares.reset();
  if (cpu["period"].read(to.cpu_period) && *to.cpu_period == 0) to.cpu_period.reset();
  if (cpu["quota"].read(to.cpu_quota)) {
    if (*to.cpu_quota == 0)
      to.cpu_quota.reset();
    else
      to.cpu_quota = std::max<std::int64_t>(*to.cpu_quota, -1);  // every negative number is "no limit"
  }
  cpu["cpus"].read(to.cpuset_cpus);
  cpu["mems"].read(to.cpuset_mems);
  std::uint64_t burst = 0;
  std::int64_t idle = 0;
  if (cpu["burst"].read(burst)) to.cpu_burst = burst;
  if (cpu["idle"].read(idle, std::int64_t{0}, std::int64_t{1})) to.cpu_idle = idle == 1;
  if (cpu["realtimeRuntime"].read(to.realtime_runtime) && *to.realtime_runtime == 0) to.realtime_runtime.reset();
  if (cpu["realtimePeriod"].read(to.realtime_period) && *to.realtime_period == 0) to.realtime_period.reset();
}

using IoLimits = std::map<std::pair<std::uint32_t, std::uint32_t>, IoLimit>;

// Four lists of {device, rate} become one line for each device.
void read_throttle(json::Value list, std::optional<std::uint64_t> IoLimit::* rate, IoLimits& to) {
  for (json::Value each : list.array().values()) {
    json::Value entry = each.object();
    IoLimit limit;
    std::uint64_t value = 0;
    if (!entry ||
        !(entry["major"].require(limit.major) & entry["minor"].require(limit.minor) & entry["rate"].require(value)))
      continue;
    to.emplace(std::pair(limit.major, limit.minor), limit).first->second.*rate = value;
  }
}

// 0 is how Go programs write one that nobody asked for.
bool read_weight(json::Value field, std::uint64_t& to) {
  if (!field.read(to) || to == 0) return false;
  if (to < 10 || to > 1000) field.wrong("must be a number from 10 to 1000, not {}", to);
  return true;
}

void ignore_leaf_weight(json::Value of, Warnings& warnings) {
  std::uint64_t leaf = 0;
  if (of["leafWeight"].read(leaf) && leaf) warn(warnings, "{}: ignored: cgroup v2 does not have it", of["leafWeight"].name());
}

void read_block_io(json::Value block, Limits& to, Warnings& warnings) {
  if (std::uint64_t weight = 0; read_weight(block["weight"], weight)) to.io_weight = weight;
  ignore_leaf_weight(block, warnings);
  for (json::Value each : block["weightDevice"].array().values()) {
    json::Value entry = each.object();
    std::uint32_t major = 0, minor = 0;
    if (!entry || !(entry["major"].require(major) & entry["minor"].require(minor))) continue;
    if (std::uint64_t weight = 0; read_weight(entry["weight"], weight)) to.io_weights[{major, minor}] = weight;
    ignore_leaf_weight(entry, warnings);
  }
  IoLimits limits;
  read_throttle(block["throttleReadBpsDevice"], &IoLimit::read_bytes, limits);
  read_throttle(block["throttleWriteBpsDevice"], &IoLimit::write_bytes, limits);
  read_throttle(block["throttleReadIOPSDevice"], &IoLimit::read_ops, limits);
  read_throttle(block["throttleWriteIOPSDevice"], &IoLimit::write_ops, limits);
  for (const auto& [device, limit] : limits) to.io.push_back(limit);
}

void read_hugepages(json::Value list, Limits& to) {
  for (json::Value each : list.array().values()) {
    json::Value entry = each.object();
    std::string size;
    std::uint64_t limit = 0;
    json::Value page = entry["pagesize"] ? entry["pagesize"] : entry["pageSize"];  // Go takes the one for the other, and so do configs for runc
    if (!entry || !(page.require(size) & entry["limit"].require(limit))) continue;
    // It becomes a part of a file's name: hugetlb.2MB.max.
    std::size_t unit = size.find_first_not_of("0123456789");
    if (unit == 0 || unit == std::string::npos || (size.substr(unit) != "KB" && size.substr(unit) != "MB" && size.substr(unit) != "GB"))
      page.wrong("must be a size such as 2MB, not {}", in_quotes(size));
    else
      to.hugepages[size] = limit;
  }
}

void read_rdma(json::Value devices, Limits& to) {
  for (json::Value each : devices.values()) {
    std::string name(each.key());
    json::Value entry = each.object();
    if (name.empty() || name.find_first_of(" \n") != std::string::npos) {
      each.wrong("is not the name of a device");
      continue;
    }
    isolate::RdmaLimit& limit = to.rdma[name];
    entry["hcaHandles"].read(limit.handles);
    entry["hcaObjects"].read(limit.objects);
  }
}

void read_network(json::Value network, Limits& to) {
  if (network["classID"].read(to.network_class) && *to.network_class == 0) to.network_class.reset();
  for (json::Value each : network["priorities"].array().values()) {
    json::Value entry = each.object();
    std::string name;
    std::uint32_t priority = 0;
    if (!entry || !(entry["name"].require(name) & entry["priority"].require(priority))) continue;
    if (name.empty() || name.find_first_of(" /\n") != std::string::npos) entry["name"].wrong("must be the name of an interface, not {}", in_quotes(name));
    else to.network_priorities[name] = priority;
  }
}

void read_unified(json::Value field, Limits& to) {
  std::map<std::string, std::string> files;
  if (!field.read(files)) return;
  for (json::Value each : field.values()) {
    std::string file(each.key());
    std::size_t dot = file.find('.');
    if (dot == 0 || dot == std::string::npos || file.find('/') != std::string::npos)
      each.wrong("must be the name of a cgroup file such as memory.high: the specified key has not the form CONTROLLER.VALUE `{}`", file);
    to.unified.insert_or_assign(file, files[file]);
  }
}

void read_limits(json::Value resources, Limits& to, Warnings& warnings) {
  read_memory(resources["memory"].object(), to, warnings);
  read_cpu(resources["cpu"].object(), to);
  if (resources["pids"].object()["limit"].read(to.pids)) {
    if (*to.pids == 0)
      to.pids.reset();
    else
      to.pids = std::max<std::int64_t>(*to.pids, -1);
  }
  read_block_io(resources["blockIO"].object(), to, warnings);
  read_hugepages(resources["hugepageLimits"], to);
  read_rdma(resources["rdma"].object(), to);
  read_network(resources["network"].object(), to);
  read_unified(resources["unified"], to);
  read_device_rules(resources, to.devices);
}

void check_swap(json::Value memory, const Limits& limits) {
  if (limits.memory_and_swap.value_or(-1) < 0) return;
  if (limits.memory.value_or(-1) < 0)
    memory["swap"].wrong("needs a limit of memory beside it");
  else if (*limits.memory_and_swap < *limits.memory)
    memory["swap"].wrong("is memory and swap together: it must not be below the limit of memory");
}

std::string read_path(json::Value field, const LoadOptions& options) {
  std::string path;
  field.read(path);
  if (path.empty()) return "/" + options.id;
  if (path[0] != '/') path.insert(0, "/runner/");
  path = absolute_path(field, path);
  if (path == "/") field.wrong("must not be the root of the hierarchy");
  return path;
}

// "slice:prefix:name", as runc reads it: the scope prefix-name.scope in that slice.
void read_scope(json::Value field, Container& to, const LoadOptions& options) {
  std::string path;
  field.read(path);
  Scope& scope = to.scope.emplace();
  if (path.empty()) {
    scope.unit = "runner-" + options.id + ".scope";
    return;
  }
  std::size_t first = path.find(':'), second = first == std::string::npos ? first : path.find(':', first + 1);
  if (second == std::string::npos || path.find(':', second + 1) != std::string::npos)
    return field.wrong("expected cgroupsPath to be of format \"slice:prefix:name\" for systemd cgroups, got {} instead", in_quotes(path));
  std::string prefix = path.substr(first + 1, second - first - 1), name = path.substr(second + 1);
  scope.slice = path.substr(0, first);
  scope.unit = (prefix.empty() ? "" : prefix + "-") + name + ".scope";
  auto is_name = [](const std::string& text) {  // unit_name_is_valid of systemd, without templates
    return text.size() < 256 && text.find_first_not_of("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789:-_.\\") == std::string::npos;
  };
  if (name.empty() || !is_name(scope.unit)) field.wrong("{} is not the name of a systemd unit", in_quotes(scope.unit));
  if (!scope.slice.empty() && (!is_name(scope.slice) || !scope.slice.ends_with(".slice"))) field.wrong("{} is not the name of a systemd slice", in_quotes(scope.slice));
}

bool limits_something(Limits limits) {
  limits.devices.clear();
  if (limits.pids == -1) limits.pids.reset();
  return limits != Limits{};
}

}  // namespace

void read_cgroup(json::Value linux, Container& to, const LoadOptions& options) {
  json::Value resources = linux["resources"].object();
  isolate::CgroupPlan& cgroup = to.plan.cgroup;
  read_limits(resources, cgroup.limits, to.warnings);
  check_swap(resources["memory"].object(), cgroup.limits);
  if (options.cgroups_disabled) {
    if (limits_something(cgroup.limits))
      resources.wrong("cannot be applied without cgroups (--cgroup-manager disabled)");
    cgroup = {};
    return;
  }
  if (!cgroup.limits.devices.empty()) add_default_device_rules(to.plan, cgroup.limits.devices);
  if (options.systemd_cgroup) read_scope(linux["cgroupsPath"], to, options);
  else cgroup.path = read_path(linux["cgroupsPath"], options);
  cgroup.everywhere = true;
}

std::optional<Limits> read_resources(std::string_view text, const std::string& name, std::vector<std::string>& warnings,
                                     Diagnostics& wrong) {
  std::size_t before = wrong.entries().size();
  json::Document document(text, name, wrong);
  if (!document) return std::nullopt;
  Limits limits;
  if (json::Value root = document.root().object()) read_limits(root, limits, warnings);
  if (wrong.entries().size() != before) return std::nullopt;
  return limits;
}

}  // namespace runner::oci
