// The v1 controllers of a hybrid host: the kernel's Documentation/admin-guide/cgroup-v1/. Only limits and counters are
// here; freezing, killing and placing at birth go through the v2 hierarchy that stands beside them.
#include <unistd.h>

#include <algorithm>
#include <initializer_list>
#include <optional>

#include "isolate/cgroup_backends.h"
#include "isolate/sys/error.h"
#include "isolate/sys/file.h"

namespace isolate::cgroups::v1 {

using namespace sys;

namespace {

// A new cpuset has no CPUs and no nodes, and takes no process until it has: each level inherits from the one above.
void inherit_cpuset(const std::string& mount, const std::string& group) {
  std::string above = mount;
  for (std::size_t at = 1, end; at <= group.size(); at = end + 1) {
    end = std::min(group.find('/', at), group.size());
    std::string here = mount + group.substr(0, end);
    for (const char* file : {"/cpuset.cpus", "/cpuset.mems"})
      if (read_file(here + file).find_first_not_of(" \n") == std::string::npos) write_file(here + file, read_file(above + file));
    above = here;
  }
}

void set_memory(const std::string& group, const Limits& limits) {
  auto set = [&](const char* file, std::int64_t value) { write_file(group + file, std::to_string(value)); };
  bool counts_swap = ::access((group + "/memory.memsw.limit_in_bytes").c_str(), W_OK) == 0;
  if (limits.memory) {
    // memsw may never be below memory: raise it first, or lower it last.
    if (counts_swap && limits.memory_and_swap) set("/memory.memsw.limit_in_bytes", -1);
    set("/memory.limit_in_bytes", *limits.memory);
    // Socket buffers are counted apart in v1.
    if (::access((group + "/memory.kmem.tcp.limit_in_bytes").c_str(), W_OK) == 0)
      set("/memory.kmem.tcp.limit_in_bytes", *limits.memory);
  }
  if (limits.memory_and_swap && counts_swap) set("/memory.memsw.limit_in_bytes", *limits.memory_and_swap);
  if (limits.memory_reservation) set("/memory.soft_limit_in_bytes", *limits.memory_reservation);
}

// The kernel refuses each value that does not fit the others as they are now: what it refuses is tried again behind the rest.
void write_in_order(std::initializer_list<std::pair<std::string, std::optional<std::int64_t>>> values) {
  std::vector<std::pair<std::string, std::int64_t>> left;
  for (const auto& [file, value] : values) {
    if (!value) continue;
    try {
      write_file(file, std::to_string(*value));
    } catch (const SystemError& error) {
      if (error.code() != EINVAL) throw;
      left.emplace_back(file, *value);
    }
  }
  for (auto each = left.rbegin(); each != left.rend(); ++each) write_file(each->first, std::to_string(each->second));
}

void set_cpu(const std::string& group, const Limits& limits) {
  if (limits.cpu_shares && *limits.cpu_shares) write_file(group + "/cpu.shares", std::to_string(*limits.cpu_shares));
  auto burst = limits.cpu_burst ? std::optional<std::int64_t>(*limits.cpu_burst) : std::nullopt;
  if (burst == 0 && !find_file(group + "/cpu.cfs_burst_us")) burst.reset();  // before Linux 5.14
  write_in_order({{group + "/cpu.cfs_burst_us", burst}, {group + "/cpu.cfs_period_us", limits.cpu_period}, {group + "/cpu.cfs_quota_us", limits.cpu_quota}});
  write_in_order({{group + "/cpu.rt_period_us", limits.realtime_period}, {group + "/cpu.rt_runtime_us", limits.realtime_runtime}});
  if (limits.cpu_idle && (*limits.cpu_idle || find_file(group + "/cpu.idle"))) write_file(group + "/cpu.idle", *limits.cpu_idle ? "1" : "0");
}

// It depends on the scheduler of the kernel (CFQ, BFQ).
std::string weight_file(const std::string& group) {
  for (const char* file : {"/blkio.weight", "/blkio.bfq.weight"})
    if (::access((group + file).c_str(), W_OK) == 0) return group + file;
  fail(ENOTSUP, "set an io weight in {} (no scheduler of this host has weights)", group);
}

void set_blkio(const std::string& group, const Limits& limits) {
  if (limits.io_weight) write_file(weight_file(group), std::to_string(*limits.io_weight));
  for (const auto& [device, weight] : limits.io_weights) write_file(weight_file(group) + "_device", fmt::format("{}:{} {}", device.first, device.second, weight));
  for (const IoLimit& limit : limits.io) {
    auto throttle = [&](const char* file, const std::optional<std::uint64_t>& rate) {
      if (rate) write_file(group + file, fmt::format("{}:{} {}", limit.major, limit.minor, *rate));
    };
    throttle("/blkio.throttle.read_bps_device", limit.read_bytes);
    throttle("/blkio.throttle.write_bps_device", limit.write_bytes);
    throttle("/blkio.throttle.read_iops_device", limit.read_ops);
    throttle("/blkio.throttle.write_iops_device", limit.write_ops);
  }
}

}  // namespace

std::string controller_for(const std::string& v2_name) { return v2_name == "io" ? "blkio" : v2_name; }

void create(const std::string& controller, const std::string& mount, const std::string& group) {
  make_dirs(mount + group, 0755);
  if (controller == "cpuset") inherit_cpuset(mount, group);
}

void set_limits(const std::map<std::string, std::string>& groups, const Limits& limits) {
  for (const auto& [controller, group] : groups) {
    if (controller == "memory") set_memory(group, limits);
    if (controller == "cpu") set_cpu(group, limits);
    if (controller == "blkio") set_blkio(group, limits);
    if (controller == "hugetlb")
      for (const auto& [page, bytes] : limits.hugepages) write_file(fmt::format("{}/hugetlb.{}.limit_in_bytes", group, page), std::to_string(bytes));
    if (controller == "rdma")
      for (const auto& [device, limit] : limits.rdma) write_file(group + "/rdma.max", rdma_line(device, limit));
    if (controller == "net_cls" && limits.network_class) write_file(group + "/net_cls.classid", std::to_string(*limits.network_class));
    if (controller == "net_prio")
      for (const auto& [interface, priority] : limits.network_priorities) write_file(group + "/net_prio.ifpriomap", fmt::format("{} {}", interface, priority));
    if (controller == "pids" && limits.pids) write_file(group + "/pids.max", *limits.pids <= 0 ? "max" : std::to_string(*limits.pids));
    if (controller == "cpuset") {
      if (!limits.cpuset_cpus.empty()) write_file(group + "/cpuset.cpus", limits.cpuset_cpus);
      if (!limits.cpuset_mems.empty()) write_file(group + "/cpuset.mems", limits.cpuset_mems);
    }
  }
}

void count(const std::map<std::string, std::string>& groups, CgroupCounters& counters) {
  auto value = [](const std::string& file, const char* key) { return keyed_value(find_file(file).value_or(""), key); };
  if (auto memory = groups.find("memory"); memory != groups.end()) {
    counters.oom_kills = value(memory->second + "/memory.oom_control", "oom_kill");
    counters.oom_source = "memory.oom_control oom_kill";
    counters.memory_now = value(memory->second + "/memory.usage_in_bytes", "");
    counters.memory_peak = value(memory->second + "/memory.max_usage_in_bytes", "");
  }
  if (auto pids = groups.find("pids"); pids != groups.end()) {
    counters.forks_refused = value(pids->second + "/pids.events", "max");
    counters.pids_source = "pids.events max";
    counters.pids_now = value(pids->second + "/pids.current", "");
  }
  if (auto cpu = groups.find("cpu"); cpu != groups.end())
    counters.throttled_microseconds = value(cpu->second + "/cpu.stat", "throttled_time") / 1000;
}

}  // namespace isolate::cgroups::v1
