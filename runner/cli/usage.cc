#include "runner/cli/usage.h"

#include <nlohmann/json.hpp>

namespace runner::cli {

using json = nlohmann::ordered_json;

json or_null(const std::optional<std::uint64_t>& number) { return number ? json(*number) : json(); }

std::optional<isolate::IoStats> io_sum(const isolate::CgroupStats& stats) {
  if (!stats.io) return std::nullopt;
  isolate::IoStats sum;
  for (const isolate::IoStats& each : *stats.io) {
    sum.read_bytes += each.read_bytes, sum.write_bytes += each.write_bytes;
    sum.read_ops += each.read_ops, sum.write_ops += each.write_ops;
  }
  return sum;
}

json usage_json(const isolate::CgroupStats& stats) {
  auto known = [&](std::uint64_t number) { return stats.known ? json(number) : json(); };
  json usage{{"memory", or_null(stats.memory_now)},     {"memory_peak", or_null(stats.memory_peak)},
             {"cpu_us", known(stats.cpu_us)},           {"cpu_user_us", known(stats.user_us)},
             {"cpu_system_us", known(stats.system_us)}, {"throttled_us", known(stats.throttled_us)},
             {"pids", known(stats.pids_now)},           {"io", nullptr}};
  if (auto io = io_sum(stats))
    usage["io"] = {{"read_bytes", io->read_bytes},
                   {"write_bytes", io->write_bytes},
                   {"read_ops", io->read_ops},
                   {"write_ops", io->write_ops}};
  else
    usage["io_missing"] = stats.io_missing;
  return usage;
}

}  // namespace runner::cli
