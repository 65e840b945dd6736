// events: runc's verb. What a container or session uses, in the JSON that containerd and others read from `runc events`; times are
// nanoseconds there. A session's own events are printed by `logs`.
#include <fmt/format.h>
#include <poll.h>

#include <limits>
#include <nlohmann/json.hpp>
#include <stdexcept>

#include "isolate/cgroup_stats.h"
#include "runner/cli/container.h"
#include "runner/config/units.h"

namespace runner::cli {

namespace {

using json = nlohmann::ordered_json;

// As runc tells it on v2; a field without a value is left out there, as Go does it.
constexpr std::uint64_t kNoLimit = std::numeric_limits<std::uint64_t>::max();

json memory_entry(const std::optional<std::uint64_t>& limit, const std::optional<std::uint64_t>& now,
                  const std::optional<std::uint64_t>& peak, std::uint64_t failures) {
  json entry{{"limit", limit.value_or(kNoLimit)}};
  if (now && *now) entry["usage"] = *now;
  if (peak && *peak) entry["max"] = *peak;
  entry["failcnt"] = failures;
  return entry;
}

json io_entries(const std::vector<isolate::IoStats>& devices, std::uint64_t isolate::IoStats::* read,
                std::uint64_t isolate::IoStats::* write) {
  json entries = json::array();
  for (const isolate::IoStats& device : devices)
    for (const auto& [what, value] : {std::pair("Read", device.*read), std::pair("Write", device.*write)})
      entries.push_back({{"major", device.major}, {"minor", device.minor}, {"op", what}, {"value", value}});
  return entries;
}

void add_pressure(json& to, const std::optional<isolate::Pressure>& pressure) {
  if (!pressure) return;
  auto share = [](const isolate::Pressure::Share& s) { return json{{"avg10", s.avg10}, {"avg60", s.avg60}, {"avg300", s.avg300}, {"total", s.total_us}}; };
  to["psi"] = {{"some", share(pressure->some)}, {"full", share(pressure->full)}};
}

json data_of(const isolate::CgroupStats& s) {
  json throttling = json::object(), pids{{"current", s.pids_now}}, blkio = json::object();
  if (s.periods)
    throttling = {
        {"periods", s.periods}, {"throttledPeriods", s.throttled_periods}, {"throttledTime", s.throttled_us * 1000}};
  if (s.pids_limit) pids["limit"] = *s.pids_limit;
  const std::vector<isolate::IoStats>& io = s.io ? *s.io : s.io_throttled;
  if (!io.empty())
    blkio = {
        {"ioServiceBytesRecursive", io_entries(io, &isolate::IoStats::read_bytes, &isolate::IoStats::write_bytes)},
        {"ioServicedRecursive", io_entries(io, &isolate::IoStats::read_ops, &isolate::IoStats::write_ops)}};
  auto cache = s.memory_stat.find("cache");
  if (cache == s.memory_stat.end()) cache = s.memory_stat.find("file");  // its name in v2
  json memory = json::object();
  if (cache != s.memory_stat.end() && cache->second) memory["cache"] = cache->second;
  memory.update({{"usage", memory_entry(s.memory_limit, s.memory_now, s.memory_peak, s.memory_failures)},
                 {"swap", memory_entry(s.swap_limit, s.swap_now, std::nullopt, 0)},
                 {"kernel", memory_entry(std::nullopt, std::nullopt, std::nullopt, 0)},
                 {"kernelTCP", memory_entry(std::nullopt, std::nullopt, std::nullopt, 0)},
                 {"raw", s.memory_stat}});
  json cpu{{"usage", {{"total", s.cpu_us * 1000}, {"kernel", s.system_us * 1000}, {"user", s.user_us * 1000}}}, {"throttling", throttling}};
  add_pressure(cpu, s.cpu_pressure);
  add_pressure(memory, s.memory_pressure);
  add_pressure(blkio, s.io_pressure);
  return {{"cpu", cpu},
          {"cpuset", json::object()},
          {"memory", memory},
          {"pids", pids},
          {"blkio", blkio},
          {"hugetlb", json::object()},
          {"intel_rdt", json::object()},
          {"network_interfaces", nullptr}};
}

void print(const std::string& type, const std::string& id, const json* data) {
  json line{{"type", type}, {"id", id}};
  if (data) line["data"] = *data;
  fmt::print("{}\n", line.dump());
  std::fflush(stdout);
}

}  // namespace

int events_main(Context& context) {
  bool once = false;
  std::string interval = "5s";
  Options options("events", "Print what a container or session uses, and its OOM kills, as JSON lines until it ends.");
  options.flag("--stats", once, "print the use once");
  options.value("--interval", interval, "time between two lines; 5s by default");
  std::string id = one_argument(context.parse(options), "events");
  auto every = parse_duration(interval);
  if (!every) throw UsageError(fmt::format("--interval: must be a time such as 5s, not '{}'", shown(interval)));
  if (*every == 0)
    throw std::runtime_error("duration interval must be greater than 0");  // runc's words, here and below
  session::State state = context.entry(id).read_state();
  isolate::sys::Fd process = session::open_process(state);
  if (!process) throw std::runtime_error(fmt::format("container with id {} is not running", id));

  std::uint64_t oom_kills = 0;
  for (bool first = true;; first = false) {
    isolate::CgroupStats stats = isolate::read_stats(state.cgroup, context.cgroups());
    if (stats.oom_kills > oom_kills && !first) print("oom", id, nullptr);
    oom_kills = stats.oom_kills;
    json data = data_of(stats);
    if (once || !first) print("stats", id, &data);
    if (once) return 0;
    pollfd wait[] = {{process.get(), POLLIN, 0}, {STDOUT_FILENO, 0, 0}};
    int ready = ::poll(wait, 2, static_cast<int>(std::min<std::uint64_t>(*every, 3'600'000)));
    if (ready > 0 && (wait[0].revents || (wait[1].revents & POLLERR))) return 0;
  }
}

}  // namespace runner::cli
