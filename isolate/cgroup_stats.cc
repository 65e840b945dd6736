#include "isolate/cgroup_stats.h"

#include <algorithm>
#include <charconv>
#include <cstdio>
#include <sstream>

#include "isolate/cgroup_backends.h"
#include "isolate/sys/error.h"
#include "isolate/sys/file.h"

namespace isolate {

using namespace sys;

namespace {

std::string text_of(const std::string& file) { return find_file(file).value_or(""); }

// "max", a missing file and v1's "more than any machine has" all mean none.
std::optional<std::uint64_t> number_in(const std::string& text) {
  constexpr std::uint64_t kNoLimit = std::uint64_t{1} << 62;
  std::uint64_t number = 0;
  auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc() || number >= kNoLimit) return std::nullopt;
  return number;
}

std::map<std::string, std::uint64_t> pairs_in(const std::string& text) {
  std::map<std::string, std::uint64_t> pairs;
  std::istringstream stream(text);
  std::string key;
  for (std::uint64_t value; stream >> key >> value;) pairs[key] = value;
  return pairs;
}

IoStats& device(std::vector<IoStats>& list, unsigned major, unsigned minor) {
  for (IoStats& each : list)
    if (each.major == major && each.minor == minor) return each;
  list.push_back({major, minor});
  return list.back();
}

// "8:0 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=5 dios=6"
std::vector<IoStats> read_io_v2(const std::string& text) {
  std::vector<IoStats> list;
  std::istringstream lines(text);
  for (std::string line; std::getline(lines, line);) {
    unsigned major, minor;
    if (std::sscanf(line.c_str(), "%u:%u", &major, &minor) != 2) continue;
    IoStats& io = device(list, major, minor);
    std::istringstream words(line);
    for (std::string word; words >> word;) {
      std::size_t equals = word.find('=');
      if (equals == std::string::npos) continue;
      std::string key = word.substr(0, equals);
      std::uint64_t value = number_in(word.substr(equals + 1)).value_or(0);
      if (key == "rbytes") io.read_bytes = value;
      if (key == "wbytes") io.write_bytes = value;
      if (key == "rios") io.read_ops = value;
      if (key == "wios") io.write_ops = value;
    }
  }
  return list;
}

// "8:0 Read 4096" lines; the last line is a total.
void read_io_v1(const std::string& text, std::vector<IoStats>& list, std::uint64_t IoStats::* read,
                std::uint64_t IoStats::* write) {
  std::istringstream lines(text);
  for (std::string line; std::getline(lines, line);) {
    unsigned major, minor;
    char what[16];
    unsigned long long value;
    if (std::sscanf(line.c_str(), "%u:%u %15s %llu", &major, &minor, what, &value) != 4) continue;
    if (std::string(what) == "Read") device(list, major, minor).*read = value;
    if (std::string(what) == "Write") device(list, major, minor).*write = value;
  }
}

void read_cpu_times(const std::string& text, CgroupStats& stats) {
  stats.cpu_us = cgroups::keyed_value(text, "usage_usec");
  stats.user_us = cgroups::keyed_value(text, "user_usec");
  stats.system_us = cgroups::keyed_value(text, "system_usec");
  stats.periods = cgroups::keyed_value(text, "nr_periods");
  stats.throttled_periods = cgroups::keyed_value(text, "nr_throttled");
  stats.throttled_us = cgroups::keyed_value(text, "throttled_usec");
}

// "some avg10=0.00 avg60=0.00 avg300=0.00 total=0". A kernel that was told not to count has the file, and answers EOPNOTSUPP.
std::optional<Pressure> read_pressure(const std::string& file) {
  Pressure pressure;
  std::string text;
  try {
    text = text_of(file);
  } catch (const SystemError&) {
  }
  if (text.empty()) return std::nullopt;
  std::istringstream lines(text);
  for (std::string line; std::getline(lines, line);) {
    Pressure::Share share;
    char kind[8];
    unsigned long long total;
    if (std::sscanf(line.c_str(), "%7s avg10=%lf avg60=%lf avg300=%lf total=%llu", kind, &share.avg10, &share.avg60, &share.avg300, &total) != 5) continue;
    share.total_us = total;
    (std::string(kind) == "some" ? pressure.some : pressure.full) = share;
  }
  return pressure;
}

void read_v2(const std::string& group, CgroupStats& stats) {
  auto at = [&](const char* file) { return text_of(group + file); };
  read_cpu_times(at("/cpu.stat"), stats);
  long long quota, period;
  if (std::sscanf(at("/cpu.max").c_str(), "%lld %lld", &quota, &period) == 2 && period > 0)
    stats.millicpus_limit = static_cast<std::uint64_t>(quota * 1000 / period);
  stats.memory_now = number_in(at("/memory.current"));
  stats.memory_peak = number_in(at("/memory.peak"));
  stats.memory_limit = number_in(at("/memory.max"));
  stats.swap_now = number_in(at("/memory.swap.current"));
  stats.swap_limit = number_in(at("/memory.swap.max"));
  stats.memory_stat = pairs_in(at("/memory.stat"));
  std::string events = at("/memory.events");
  stats.memory_failures = cgroups::keyed_value(events, "max");
  stats.oom_kills = cgroups::keyed_value(events, "oom_kill");
  stats.pids_limit = number_in(at("/pids.max"));
  stats.cpu_pressure = read_pressure(group + "/cpu.pressure");
  stats.memory_pressure = read_pressure(group + "/memory.pressure");
  stats.io_pressure = read_pressure(group + "/io.pressure");
  if (auto io = find_file(group + "/io.stat")) stats.io = read_io_v2(*io);
}

void read_v1_cpu(const std::string& group, CgroupStats& stats) {
  std::string text = text_of(group + "/cpu.stat");
  stats.periods = cgroups::keyed_value(text, "nr_periods");
  stats.throttled_periods = cgroups::keyed_value(text, "nr_throttled");
  stats.throttled_us = cgroups::keyed_value(text, "throttled_time") / 1000;
  auto quota = number_in(text_of(group + "/cpu.cfs_quota_us")),
       period = number_in(text_of(group + "/cpu.cfs_period_us"));
  if (quota && period && *period) stats.millicpus_limit = *quota * 1000 / *period;
}

void read_v1(const std::string& controller, const std::string& group, CgroupStats& stats) {
  auto at = [&](const char* file) { return text_of(group + file); };
  if (controller == "cpu") read_v1_cpu(group, stats);
  if (controller == "cpuacct" && !stats.cpu_us) {
    auto microseconds = [&](const char* file) { return number_in(at(file)).value_or(0) / 1000; };
    stats.cpu_us = microseconds("/cpuacct.usage");
    stats.user_us = microseconds("/cpuacct.usage_user");
    stats.system_us = microseconds("/cpuacct.usage_sys");
  }
  if (controller == "memory") {
    stats.memory_now = number_in(at("/memory.usage_in_bytes"));
    stats.memory_peak = number_in(at("/memory.max_usage_in_bytes"));
    stats.memory_limit = number_in(at("/memory.limit_in_bytes"));
    stats.swap_now = number_in(at("/memory.memsw.usage_in_bytes"));
    stats.swap_limit = number_in(at("/memory.memsw.limit_in_bytes"));
    stats.memory_stat = pairs_in(at("/memory.stat"));
    stats.memory_failures = number_in(at("/memory.failcnt")).value_or(0);
    stats.oom_kills = cgroups::keyed_value(at("/memory.oom_control"), "oom_kill");
  }
  if (controller == "pids") stats.pids_limit = number_in(at("/pids.max"));
  if (controller == "blkio") {
    // Not what a group has read and written: requests are counted only on devices that some group has a limit on, and what goes through
    // the page cache is the flusher's. runc shows these numbers as they are.
    std::vector<IoStats>& list = stats.io_throttled;
    read_io_v1(at("/blkio.throttle.io_service_bytes_recursive"), list, &IoStats::read_bytes, &IoStats::write_bytes);
    read_io_v1(at("/blkio.throttle.io_serviced_recursive"), list, &IoStats::read_ops, &IoStats::write_ops);
  }
}

// Where no pids controller counts: tasks would be threads too, so these are processes, the most that can be told.
std::uint64_t count_pids(const std::string& path, const CgroupHost& host) {
  std::string v2 = host.v2 + path + "/pids.current";
  if (auto number = host.v2.empty() ? std::nullopt : number_in(text_of(v2))) return *number;
  if (auto pids = host.v1.find("pids"); pids != host.v1.end())
    if (auto number = number_in(text_of(pids->second + path + "/pids.current"))) return *number;
  return Cgroup::open(path, host).processes().size();
}

}  // namespace

CgroupStats read_stats(const std::string& path, const CgroupHost& host) {
  CgroupStats stats;
  if (path.empty()) return stats;
  if (std::string group = host.v2 + path; !host.v2.empty() && find_dir(group)) {
    read_v2(group, stats);
    stats.known = true;
  }
  for (const auto& [controller, mount] : host.v1)
    if (find_dir(mount + path)) {
      read_v1(controller, mount + path, stats);
      stats.known = true;
    }
  if (stats.known) stats.pids_now = count_pids(path, host);
  bool v1_has_it = host.v1.count(cgroups::v1::controller_for("io")) != 0;
  if (!stats.io)
    stats.io_missing = !stats.known ? "the session has no cgroup"
                       : v1_has_it  ? "this host has the io controller in cgroup v1 (blkio), which does not count what goes through the page cache, nor devices without a limit"
                                    : "the io controller of cgroup v2 is not enabled for this group";
  return stats;
}

}  // namespace isolate
