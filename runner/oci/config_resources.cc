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
  bool no_killer = false, hierarchy = true, check = false;
  memory["kernel"].read(kernel);
  memory["kernelTCP"].read(kernel_tcp);
  bool has_swappiness = memory["swappiness"].read(swappiness, std::uint64_t{0}, std::uint64_t{100});
  memory["disableOOMKiller"].read(no_killer);
  memory["useHierarchy"].read(hierarchy);
  memory["checkBeforeUpdate"].read(check);
  ignore("kernel", kernel != 0);
  ignore("kernelTCP", kernel_tcp != 0);
  ignore("swappiness", has_swappiness);
  ignore("disableOOMKiller", no_killer);
  ignore("useHierarchy", !hierarchy);
  ignore("checkBeforeUpdate", check);
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
  // Files of their own, which only v2 has under these names.
  std::uint64_t burst = 0;
  std::int64_t idle = 0;
  if (cpu["burst"].read(burst) && burst) to.unified.emplace("cpu.max.burst", std::to_string(burst));
  if (cpu["idle"].read(idle, std::int64_t{0}, std::int64_t{1}) && idle) to.unified.emplace("cpu.idle", "1");
  std::int64_t runtime = 0;
  std::uint64_t period = 0;
  cpu["realtimeRuntime"].read(runtime);
  cpu["realtimePeriod"].read(period);
  if (runtime) cpu["realtimeRuntime"].wrong("is not supported by this version");
  if (period) cpu["realtimePeriod"].wrong("is not supported by this version");
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

void read_block_io(json::Value block, Limits& to, Warnings& warnings) {
  std::uint64_t weight = 0, leaf = 0;
  if (block["weight"].read(weight) && weight) {
    if (weight < 10 || weight > 1000) block["weight"].wrong("must be a number from 10 to 1000, not {}", weight);
    to.io_weight = weight;
  }
  if (block["leafWeight"].read(leaf) && leaf)
    warn(warnings, "{}: ignored: cgroup v2 does not have it", block["leafWeight"].name());
  refuse(block["weightDevice"]);
  IoLimits limits;
  read_throttle(block["throttleReadBpsDevice"], &IoLimit::read_bytes, limits);
  read_throttle(block["throttleWriteBpsDevice"], &IoLimit::write_bytes, limits);
  read_throttle(block["throttleReadIOPSDevice"], &IoLimit::read_ops, limits);
  read_throttle(block["throttleWriteIOPSDevice"], &IoLimit::write_ops, limits);
  for (const auto& [device, limit] : limits) to.io.push_back(limit);
}

void read_unified(json::Value field, Limits& to) {
  std::map<std::string, std::string> files;
  if (!field.read(files)) return;
  for (json::Value each : field.values()) {
    std::string file(each.key());
    std::size_t dot = file.find('.');
    if (dot == 0 || dot == std::string::npos || file.find('/') != std::string::npos)
      each.wrong("must be the name of a cgroup file such as memory.high");
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
  refuse(resources["hugepageLimits"]);
  refuse(resources["rdma"]);
  json::Value network = resources["network"].object();
  std::uint32_t class_id = 0;
  if (network["classID"].read(class_id) && class_id) network["classID"].wrong("is not supported by this version");
  refuse(network["priorities"]);
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
  if (options.systemd_cgroup) {
    field.wrong(
        "cannot be applied: this version has no systemd cgroups (leave out --systemd-cgroup, or use the cgroupfs "
        "manager)");
    return {};
  }
  if (path.empty()) return "/" + options.id;
  if (path[0] != '/') path.insert(0, "/runner/");
  path = absolute_path(field, path);
  if (path == "/") field.wrong("must not be the root of the hierarchy");
  return path;
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
  cgroup.path = read_path(linux["cgroupsPath"], options);
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
