// cgroup v2: the kernel's Documentation/admin-guide/cgroup-v2.rst.
#include <errno.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>

#include "isolate/cgroup_backends.h"
#include "isolate/sys/error.h"
#include "isolate/sys/file.h"

namespace isolate::cgroups::v2 {

using namespace sys;

namespace {

bool has_word(const std::string& text, const std::string& word) {
  std::vector<std::string> words = words_of(text);
  return std::find(words.begin(), words.end(), word) != words.end();
}

// A group with processes of its own cannot give controllers to its children (the "no internal processes" rule). In a
// delegated subtree the one inside is often ourselves: then we step aside into a leaf.
void step_aside(const std::string& group) {
  make_dirs(group + "/runner.supervisor", 0755);
  write_file(group + "/runner.supervisor/cgroup.procs", std::to_string(::getpid()));
}

void write_control(const std::string& group, const std::string& request, bool may_step_aside) {
  try {
    write_file(group + "/cgroup.subtree_control", request);
  } catch (const SystemError& error) {
    if (error.code() != EBUSY || !may_step_aside) throw;
    step_aside(group);
    write_file(group + "/cgroup.subtree_control", request);
  }
}

void enable(const std::string& group, const std::vector<Need>& needs, const std::vector<std::string>& others, bool may_step_aside) {
  std::string available = read_file(group + "/cgroup.controllers"), enabled = read_file(group + "/cgroup.subtree_control");
  std::string needed, more;
  auto add = [&](std::string& request, const std::string& controller) {
    bool asked = has_word(needed, "+" + controller) || has_word(more, "+" + controller);
    if (has_word(available, controller) && !has_word(enabled, controller) && !asked) request += "+" + controller + " ";
  };
  for (const Need& need : needs) add(needed, need.controller);
  for (const std::string& controller : others) add(more, controller);
  if (needed.empty() && more.empty()) return;
  bool busy = false;
  try {
    return write_control(group, needed + more, may_step_aside && more.empty());
  } catch (const SystemError& error) {
    if (more.empty()) throw;
    busy = error.code() == EBUSY;
  }
  if (!needed.empty()) write_control(group, needed, may_step_aside);
  // Beside processes only controllers of threads can be given, which makes this a group of threads, in which no container can be.
  if (busy) return;
  // One that cannot be had, as cpu while there are realtime processes, must not cost the others.
  for (const std::string& word : words_of(more)) {
    try {
      write_control(group, word, false);
    } catch (const SystemError&) {
    }
  }
}

std::string max_or(std::int64_t value) { return value < 0 ? "max" : std::to_string(value); }
std::string positive_or_max(std::int64_t value) { return value <= 0 ? "max" : std::to_string(value); }

// The specification's swap is memory and swap together, v2's is swap alone; 0 and "same as memory" both mean none.
std::string swap_alone(const Limits& limits) {
  if (*limits.memory_and_swap < 0) return "max";
  if (!limits.memory || *limits.memory < 0) fail(EINVAL, "set a limit of swap (it needs a limit of memory beside it)");
  if (*limits.memory_and_swap < *limits.memory) fail(EINVAL, "set a limit of memory and swap below the limit of memory");
  return std::to_string(*limits.memory_and_swap - *limits.memory);
}

// Of whoever asks for it: v1 refuses such a limit, v2 reclaims, and then kills. In runc's words, swap first as there.
void check_usage(int group, const Limits& limits) {
  auto check = [&](const char* what, const std::optional<std::int64_t>& limit, std::int64_t usage) {
    if (limit.value_or(0) > 0 && *limit <= usage) throw std::runtime_error(fmt::format("rejecting {} limit {} <= usage {}", what, *limit, usage));
  };
  auto used = [&](const char* file) { return std::stoll(find_file_at(group, file).value_or("0")); };
  check("memory+swap", limits.memory_and_swap, used("memory.current") + used("memory.swap.current"));
  check("memory", limits.memory, used("memory.current"));
}

std::string io_line(const IoLimit& limit) {
  std::string line = fmt::format("{}:{}", limit.major, limit.minor);
  auto add = [&](const char* key, const std::optional<std::uint64_t>& value) {
    if (value) line += fmt::format(" {}={}", key, *value ? std::to_string(*value) : "max");
  };
  add("rbps", limit.read_bytes);
  add("wbps", limit.write_bytes);
  add("riops", limit.read_ops);
  add("wiops", limit.write_ops);
  return line;
}

// BFQ, where it schedules a device, has v1's range of weights; else io.cost has v2's.
void set_io_weights(int group, const Limits& limits) {
  if (!limits.io_weight && limits.io_weights.empty()) return;
  bool bfq = find_file_at(group, "io.bfq.weight").has_value();
  const char* file = bfq ? "io.bfq.weight" : "io.weight";
  if (!bfq && !find_file_at(group, file)) fail(ENOTSUP, "set an io weight (no scheduler of this host has weights)");
  auto value = [&](std::uint64_t weight) { return bfq ? weight : io_weight_of(weight); };
  if (limits.io_weight) write_file_at(group, file, fmt::format("default {}", value(*limits.io_weight)));
  for (const auto& [device, weight] : limits.io_weights) write_file_at(group, file, fmt::format("{}:{} {}", device.first, device.second, value(weight)));
}

}  // namespace

void create(const CgroupHost& host, const std::string& path, const std::vector<Need>& needs, const std::vector<std::string>& others) {
  bool delegated = ::geteuid() != 0;
  for (std::size_t at = host.v2_base.size() + 1, end; at <= path.size(); at = end + 1) {
    end = std::min(path.find('/', at), path.size());
    enable(host.v2 + path.substr(0, at - 1), needs, others, delegated);
    std::string group = host.v2 + path.substr(0, end);
    if (::mkdir(group.c_str(), 0755) == -1 && errno != EEXIST) fail(errno, "make cgroup {}", group);
  }
}

void set_limits(int group, const Limits& limits, const std::vector<std::string>& controllers) {
  auto here = [&](const char* name) { return std::find(controllers.begin(), controllers.end(), name) != controllers.end(); };
  auto set = [&](const char* file, const std::string& value) { write_file_at(group, file, value); };
  if (here("memory")) {
    if (limits.check_usage) check_usage(group, limits);
    if (limits.memory_reservation) set("memory.low", max_or(*limits.memory_reservation));
    if (limits.memory_and_swap && find_file_at(group, "memory.swap.max")) set("memory.swap.max", swap_alone(limits));
    if (limits.memory) set("memory.max", max_or(*limits.memory));
  }
  if (here("pids") && limits.pids) set("pids.max", positive_or_max(*limits.pids));
  if (here("cpu")) {
    if (limits.cpu_shares && *limits.cpu_shares) set("cpu.weight", std::to_string(weight_of_shares(*limits.cpu_shares)));
    if (limits.cpu_quota || limits.cpu_period) {
      // What is not said stays: a quota alone leaves the period as it is, but no period can be written alone.
      std::string quota = words_of(limits.cpu_quota ? positive_or_max(*limits.cpu_quota) : read_file_at(group, "cpu.max")).at(0);
      set("cpu.max", limits.cpu_period ? fmt::format("{} {}", quota, *limits.cpu_period) : quota);
    }
    // Before Linux 5.14 and 5.15 there are none, and nothing is to be set to 0.
    if (limits.cpu_burst && (*limits.cpu_burst || find_file_at(group, "cpu.max.burst"))) set("cpu.max.burst", std::to_string(*limits.cpu_burst));
    if (limits.cpu_idle && (*limits.cpu_idle || find_file_at(group, "cpu.idle"))) set("cpu.idle", *limits.cpu_idle ? "1" : "0");
  }
  if (here("cpuset")) {
    if (!limits.cpuset_cpus.empty()) set("cpuset.cpus", limits.cpuset_cpus);
    if (!limits.cpuset_mems.empty()) set("cpuset.mems", limits.cpuset_mems);
  }
  if (here("io")) {
    set_io_weights(group, limits);
    for (const IoLimit& limit : limits.io) set("io.max", io_line(limit));
  }
  if (here("hugetlb"))
    for (const auto& [page, bytes] : limits.hugepages)
      for (const char* kind : {"", ".rsvd"})  // what is mapped, and what is set aside
        if (std::string file = fmt::format("hugetlb.{}{}.max", page, kind); !*kind || find_file_at(group, file)) set(file.c_str(), std::to_string(bytes));
  if (here("rdma"))
    for (const auto& [device, limit] : limits.rdma) set("rdma.max", rdma_line(device, limit));
  for (const auto& [file, value] : limits.unified) {
    if (file.find('/') != std::string::npos) fail(EINVAL, "set cgroup file {} (a name without '/' is wanted)", file);
    if (file.rfind("cgroup.", 0) != 0 && !here(file.substr(0, file.find('.')).c_str())) continue;
    // Lines of several devices: the kernel takes one at a time. An empty value is one as well.
    for (std::size_t at = 0, end; at == 0 || at < value.size(); at = end + 1) {
      end = std::min(value.find('\n', at), value.size());
      set(file.c_str(), value.substr(at, end - at));
    }
  }
}

void count(int group, CgroupCounters& counters) {
  auto value = [&](const char* file, const char* key) { return keyed_value(find_file_at(group, file).value_or(""), key); };
  // oom_kill counts below too; "max" of pids.events is this group's own refusals.
  if (auto events = find_file_at(group, "memory.events")) {
    counters.oom_kills = keyed_value(*events, "oom_kill");
    counters.oom_source = "memory.events oom_kill";
    counters.memory_now = value("memory.current", "");
    counters.memory_peak = value("memory.peak", "");
  }
  if (auto events = find_file_at(group, "pids.events")) {
    counters.forks_refused = keyed_value(*events, "max");
    counters.pids_source = "pids.events max";
    counters.pids_now = value("pids.current", "");
  }
  std::string cpu = find_file_at(group, "cpu.stat").value_or("");
  counters.cpu_microseconds = keyed_value(cpu, "usage_usec");
  counters.throttled_microseconds = keyed_value(cpu, "throttled_usec");
}

// Depth first; a group that dying processes still hold answers EBUSY for a moment.
void remove(const std::string& path) {
  for (int tries = 0; ::rmdir(path.c_str()) == -1 && errno != ENOENT; ++tries) {
    if (errno != EBUSY && errno != ENOTEMPTY) fail(errno, "remove cgroup {}", path);
    if (tries == 1000) fail(EBUSY, "remove cgroup {}", path);
    struct stat info;
    for (const std::string& name : list_dir(path))
      if (std::string below = path + "/" + name; ::lstat(below.c_str(), &info) == 0 && S_ISDIR(info.st_mode)) remove(below);
    if (tries > 0) ::usleep(1000);
  }
}

}  // namespace isolate::cgroups::v2
