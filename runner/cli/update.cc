// `runner update`: other limits for a container that runs.
#include <charconv>
#include <iostream>
#include <iterator>

#include "runner/cli/container.h"
#include "runner/config/units.h"
#include "runner/oci/json.h"
#include "runner/oci/resources.h"

namespace runner::cli {

namespace {

// -1 is "no limit"; bytes may have a unit, as with runc and docker.
std::optional<std::int64_t> read_number(const char* flag, const std::string& text, bool bytes) {
  if (text.empty()) return std::nullopt;
  std::int64_t value = 0;
  auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error == std::errc() && end == text.data() + text.size() && value >= -1) return value;
  if (auto size = bytes ? parse_size(text) : std::nullopt) return static_cast<std::int64_t>(*size);
  throw UsageError(fmt::format("update: {} '{}' is not a number", flag, text));
}

struct Flags {
  std::string resources, blkio, period, quota, burst, shares, idle, runtime, rt_period, cpus, mems, memory, reservation, swap, kernel, kernel_tcp, pids, l3, bandwidth;

  void declare(Options& o) {
    o.value("-r,--resources", resources, "file with the limits as JSON, - for stdin: the specification's `resources`; the flags beside it are left out");
    o.value("--blkio-weight", blkio, "weight of its input and output, 10 to 1000");
    o.value("--cpu-period", period, "microseconds over which the quota counts");
    o.value("--cpu-quota", quota, "microseconds of CPU in a period; -1: no limit");
    o.value("--cpu-burst", burst, "microseconds that it may save up");
    o.value("--cpu-share", shares, "weight against others, 2 to 262144");
    o.value("--cpu-idle", idle, "1: only while nobody else wants the CPU");
    o.value("--cpu-rt-period", rt_period, "microseconds over which the realtime share counts (cgroup v1)");
    o.value("--cpu-rt-runtime", runtime, "microseconds of realtime scheduling in such a period (cgroup v1)");
    o.value("--cpuset-cpus", cpus, "the CPUs that it may use, such as 0-2,5");
    o.value("--cpuset-mems", mems, "the memory nodes that it may use");
    o.value("--memory", memory, "bytes, or 64M; -1: no limit");
    o.value("--memory-reservation", reservation, "bytes that it keeps when memory is short");
    o.value("--memory-swap", swap, "bytes of memory and swap together; -1: no limit");
    o.value("--kernel-memory", kernel, "accepted as runc has it; the kernel has no such limit any more");
    o.value("--kernel-memory-tcp", kernel_tcp, "accepted as runc has it; no such limit is set");
    o.value("--pids-limit", pids, "processes; -1: no limit");
    o.value("--l3-cache-schema", l3, "not supported: an error");
    o.value("--mem-bw-schema", bandwidth, "not supported: an error");
  }

  isolate::Limits limits() const {
    isolate::Limits to;
    auto whole = [](const char* flag, const std::string& text) -> std::optional<std::uint64_t> {
      auto value = read_number(flag, text, false);
      if (!value || *value == 0) return std::nullopt;
      if (*value < 0) throw UsageError(fmt::format("update: {} '{}' is not a number", flag, text));
      return static_cast<std::uint64_t>(*value);
    };
    for (const auto& [flag, value] : {std::pair("--l3-cache-schema", &l3), {"--mem-bw-schema", &bandwidth}})
      if (!value->empty() && *value != "0") throw UsageError(fmt::format("update: {} is not supported by this version", flag));
    to.io_weight = whole("--blkio-weight", blkio);
    to.cpu_period = whole("--cpu-period", period);
    to.cpu_quota = read_number("--cpu-quota", quota, false);
    if (to.cpu_quota == 0) to.cpu_quota.reset();
    to.cpu_shares = whole("--cpu-share", shares);
    to.realtime_period = whole("--cpu-rt-period", rt_period);
    to.realtime_runtime = read_number("--cpu-rt-runtime", runtime, false);
    if (to.realtime_runtime == 0) to.realtime_runtime.reset();
    if (!burst.empty()) to.cpu_burst = static_cast<std::uint64_t>(std::max<std::int64_t>(0, read_number("--cpu-burst", burst, false).value_or(0)));
    if (!idle.empty() && idle != "0" && idle != "1") throw UsageError(fmt::format("update: --cpu-idle is 0 or 1, not '{}'", shown(idle)));
    if (!idle.empty()) to.cpu_idle = idle == "1";
    to.cpuset_cpus = cpus;
    to.cpuset_mems = mems;
    auto bytes = [](const char* flag, const std::string& text) {
      auto value = read_number(flag, text, true);
      return value == 0 ? std::nullopt : value;
    };
    to.memory = bytes("--memory", memory);
    to.memory_reservation = bytes("--memory-reservation", reservation);
    to.memory_and_swap = bytes("--memory-swap", swap);
    if (to.memory == -1 && !to.memory_and_swap) to.memory_and_swap = -1;  // which may not be below it
    to.pids = read_number("--pids-limit", pids, false);
    return to;
  }
};

isolate::Limits read_resources(Context& context, const std::string& path) {
  Diagnostics wrong;
  std::vector<std::string> warnings;
  std::optional<std::string> text;
  if (path == "-") text = std::string(std::istreambuf_iterator<char>(std::cin), {});
  else text = oci::json::read_text(path, wrong);
  auto limits = text ? oci::read_resources(*text, path == "-" ? "stdin" : path, warnings, wrong) : std::nullopt;
  if (!limits) throw std::runtime_error(wrong.text());
  for (const std::string& warning : warnings) report_warning(context.globals, warning);
  return *limits;
}

}  // namespace

int update_main(Context& context) {
  Flags flags;
  Options options("update", "Give a container other limits: runner update [flags] ID");
  flags.declare(options);
  session::Entry entry = context.entry(one_argument(context.parse(options), "update"));
  session::State state = entry.read_state();
  if (state.is_session) throw std::runtime_error(fmt::format("update: {} is a session, whose limits its policy has set", state.id));
  isolate::Limits limits = flags.resources.empty() ? flags.limits() : read_resources(context, flags.resources);
  limits.devices.clear();  // engines send them with all the rest; what a container may open stays as it was made
  if (session::status_of(state, context.cgroups()) == session::Status::Stopped) throw std::runtime_error("container not running");
  isolate::Cgroup cgroup = isolate::Cgroup::open(state.cgroup, context.cgroups());
  cgroup.change(limits, context.cgroups());
  if (!state.scope.empty()) systemd::change_scope(helper_path("runner-systemd"), state.scope, limits);  // or its next reload would undo them
  return 0;
}

}  // namespace runner::cli
