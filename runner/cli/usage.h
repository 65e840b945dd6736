// What a sandbox uses, as JSON of ours.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <optional>

#include "isolate/cgroup_stats.h"

namespace runner::cli {

nlohmann::ordered_json or_null(const std::optional<std::uint64_t>& number);

/// Of all block devices together; empty where the host does not tell.
std::optional<isolate::IoStats> io_sum(const isolate::CgroupStats& stats);

/// {"memory", "memory_peak", "cpu_us", "cpu_user_us", "cpu_system_us", "throttled_us", "pids", "io"} and with a null for io "io_missing"; null: this host does not tell.
nlohmann::ordered_json usage_json(const isolate::CgroupStats& stats);

}  // namespace runner::cli
