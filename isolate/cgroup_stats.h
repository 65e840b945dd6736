// What a cgroup has used and what it may use, at one moment: for people and schedulers. What a verdict needs is in
// Cgroup::counters(). Read-only, and for a group of either version.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "isolate/cgroup.h"

namespace isolate {

/// Of one block device.
struct IoStats {
  unsigned major = 0, minor = 0;
  std::uint64_t read_bytes = 0, write_bytes = 0, read_ops = 0, write_ops = 0;
};

/// Pressure stall information: the kernel's Documentation/accounting/psi.rst.
struct Pressure {
  struct Share {
    double avg10 = 0, avg60 = 0, avg300 = 0;  // percent of the last so many seconds
    std::uint64_t total_us = 0;
  };
  Share some, full;  // some task waited, or all of them
};

/// Empty: this host does not tell, or for a limit: there is none.
struct CgroupStats {
  bool known = false;  // there is such a group: without one (an ordinary user's session) nothing below means anything
  std::uint64_t cpu_us = 0, user_us = 0, system_us = 0;
  std::uint64_t periods = 0, throttled_periods = 0, throttled_us = 0;
  std::optional<std::uint64_t> millicpus_limit;
  std::optional<std::uint64_t> memory_now, memory_peak, memory_limit;
  std::optional<std::uint64_t> swap_now, swap_limit;  // v1 counts memory and swap together here
  std::map<std::string, std::uint64_t> memory_stat;   // memory.stat as it stands
  std::optional<Pressure> cpu_pressure, memory_pressure, io_pressure;
  std::uint64_t memory_failures = 0, oom_kills = 0;
  std::optional<std::uint64_t> pids_limit;
  std::uint64_t pids_now = 0;
  std::optional<std::vector<IoStats>> io;
  std::string io_missing;                             // why `io` is empty, in a sentence
  std::vector<IoStats> io_throttled;                  // what v1's blkio has counted for its own limits: see cgroup_stats.cc
};

/// Of the group that CgroupPlan::path names.
CgroupStats read_stats(const std::string& path, const CgroupHost& host);

}  // namespace isolate
