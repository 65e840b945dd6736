// What cgroup.cc asks of the two kinds of hierarchy. Each function sets what it is given and says what it could not.
#pragma once

#include <functional>
#include <map>
#include <string>
#include <vector>

#include "isolate/cgroup.h"

namespace isolate::cgroups {

/// One limit of a plan: the controller it needs and how it reads in a message.
struct Need {
  std::string controller;  // v2 name: memory, pids, cpu, cpuset, io
  std::string what;        // "memory limit"
  bool v2_only = false;    // named by its v2 file: no v1 controller can stand in
  bool v1_only = false;    // v2's controller of that name does not have it
};
std::vector<Need> needs_of(const Limits& limits);

namespace v2 {
/// Makes the group and the controllers of its ancestors available to it, as far as they exist; those of `others` where that can be.
void create(const CgroupHost& host, const std::string& path, const std::vector<Need>& needs, const std::vector<std::string>& others);
void set_limits(int group, const Limits& limits, const std::vector<std::string>& controllers);
void count(int group, CgroupCounters& counters);
void remove(const std::string& path);
}  // namespace v2

namespace v1 {
/// The v1 controllers whose directories a v2 need maps to: io -> blkio.
std::string controller_for(const std::string& v2_name);
void create(const std::string& controller, const std::string& mount, const std::string& group);
void set_limits(const std::map<std::string, std::string>& groups, const Limits& limits);
void count(const std::map<std::string, std::string>& groups, CgroupCounters& counters);
}  // namespace v1

/// Attaches a BPF program that decides on opening and making device nodes (BPF_CGROUP_DEVICE).
void set_device_rules(int group, const std::vector<DeviceRule>& rules);

/// cpu.shares (2..262144) as cpu.weight (1..10000), by the formula of runc 1.3 and Kubernetes: 1024 is 100, the default of both.
std::uint64_t weight_of_shares(std::uint64_t shares);

std::vector<std::string> words_of(const std::string& text);  ///< what blanks and line ends separate

/// A weight of blkio, 10 to 1000, as one of v2's io controller, 1 to 10000; by runc's formula.
std::uint64_t io_weight_of(std::uint64_t weight);

/// One line of rdma.max, which both versions have alike.
std::string rdma_line(const std::string& device, const RdmaLimit& limit);

/// "key value" lines, such as memory.events.
std::uint64_t keyed_value(const std::string& text, const std::string& key);

}  // namespace isolate::cgroups
