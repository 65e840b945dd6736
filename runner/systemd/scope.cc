#include "runner/systemd/scope.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <limits>

#include "isolate/cgroup_backends.h"
#include "isolate/execute.h"
#include "isolate/scheduling.h"
#include "isolate/sys/error.h"
#include "isolate/sys/file.h"
#include "isolate/sys/socket.h"
#include "runner/session/directories.h"

namespace runner::systemd {

using namespace isolate::sys;

namespace {

constexpr std::uint64_t kInfinity = std::numeric_limits<std::uint64_t>::max();

std::uint64_t or_infinity(std::int64_t limit) { return limit < 0 ? kInfinity : static_cast<std::uint64_t>(limit); }

// systemd counts in whole percents of a CPU: less than one would be rounded to none, and so to no limit.
std::uint64_t quota_a_second(std::int64_t quota, std::uint64_t period) {
  if (quota <= 0) return kInfinity;
  constexpr std::uint64_t kPercent = 10'000;  // microseconds
  std::uint64_t exact = static_cast<std::uint64_t>(quota) * 1'000'000 / period;
  return (exact + kPercent - 1) / kPercent * kPercent;
}

// A bit for each CPU, the first byte's lowest first.
std::string bitmap(const std::string& list) {
  std::vector<unsigned> numbers = isolate::parse_cpu_list(list).value_or(std::vector<unsigned>());
  std::vector<unsigned> bytes;
  for (unsigned number : numbers) {
    if (bytes.size() <= number / 8) bytes.resize(number / 8 + 1);
    bytes[number / 8] |= 1u << number % 8;
  }
  std::string text;
  for (unsigned byte : bytes) text += fmt::format("{:02x}", byte);
  return text;
}

// Files of `unified` that systemd has a property for, and would write anew when it reloads.
constexpr std::pair<const char*, const char*> kFiles[] = {{"memory.min", "MemoryMin"}, {"memory.low", "MemoryLow"},          {"memory.high", "MemoryHigh"},
                                                          {"memory.max", "MemoryMax"}, {"memory.swap.max", "MemorySwapMax"}, {"pids.max", "TasksMax"},
                                                          {"cpu.weight", "CPUWeight"}};

struct Helper {
  Child child;
  Fd in, out, error;
};

Helper start_helper(const std::string& program, const std::vector<std::string>& args) {
  std::vector<std::string> line{program, args.at(0)};
  if (session::is_user()) line.push_back("--user");
  line.insert(line.end(), args.begin() + 1, args.end());
  auto [in_read, in_write] = make_pipe();
  auto [out_read, out_write] = make_pipe();
  Fd error = memory_file("runner-systemd", "");
  Child child = clone_process(0);
  if (child.pid() == 0) {
    isolate::reset_signals();
    ::dup2(in_read.get(), 0);
    ::dup2(out_write.get(), 1);
    ::dup2(error.get(), 2);
    try {
      isolate::die_with_parent();
      std::vector<std::string> env;
      for (char** entry = environ; *entry; ++entry) env.emplace_back(*entry);
      isolate::execute(program, line, env);
    } catch (...) {
    }
    ::_exit(127);
  }
  return {std::move(child), std::move(in_write), std::move(out_read), std::move(error)};
}

// One line, or less when the helper has ended before.
std::string read_line(const Fd& from) {
  std::string text;
  char byte;
  while (::read(from.get(), &byte, 1) == 1 && byte != '\n') text += byte;
  return text;
}

[[noreturn]] void refuse(Helper helper) {
  helper.in.close();
  helper.child.wait();
  std::string said(2000, '\0');
  said.resize(static_cast<std::size_t>(std::max<ssize_t>(0, ::pread(helper.error.get(), said.data(), said.size(), 0))));
  while (!said.empty() && said.back() == '\n') said.pop_back();
  throw std::runtime_error(fmt::format("--systemd-cgroup: {} (`runner` without that flag needs no systemd)", said.empty() ? "runner-systemd could not be started" : said));
}

void run_helper(const std::string& program, const std::vector<std::string>& args) {
  Helper helper = start_helper(program, args);
  helper.in.close();
  if (helper.child.wait() != Exit{}) refuse(std::move(helper));
}

}  // namespace

std::vector<std::string> properties_of(const isolate::Limits& limits) {
  std::vector<std::string> properties;
  auto number = [&](const char* name, std::uint64_t value) { properties.push_back(fmt::format("{}=t:{}", name, value)); };
  if (limits.memory) number("MemoryMax", or_infinity(*limits.memory));
  if (limits.memory_reservation) number("MemoryLow", or_infinity(*limits.memory_reservation));
  if (limits.memory_and_swap && (*limits.memory_and_swap < 0 || limits.memory.value_or(-1) >= 0))
    number("MemorySwapMax", *limits.memory_and_swap < 0 ? kInfinity : static_cast<std::uint64_t>(std::max<std::int64_t>(0, *limits.memory_and_swap - *limits.memory)));
  if (limits.cpu_shares) number("CPUWeight", isolate::cgroups::weight_of_shares(*limits.cpu_shares));
  std::uint64_t period = limits.cpu_period.value_or(100'000);
  if (limits.cpu_quota) number("CPUQuotaPerSecUSec", quota_a_second(*limits.cpu_quota, period));
  if (limits.cpu_period) number("CPUQuotaPeriodUSec", period);
  if (limits.pids) number("TasksMax", *limits.pids <= 0 ? kInfinity : static_cast<std::uint64_t>(*limits.pids));
  if (limits.io_weight) number("IOWeight", isolate::cgroups::io_weight_of(*limits.io_weight));
  if (!limits.cpuset_cpus.empty()) properties.push_back("AllowedCPUs=ay:" + bitmap(limits.cpuset_cpus));
  if (!limits.cpuset_mems.empty()) properties.push_back("AllowedMemoryNodes=ay:" + bitmap(limits.cpuset_mems));
  for (const auto& [file, property] : kFiles) {
    auto found = limits.unified.find(file);
    std::uint64_t value = kInfinity;
    if (found == limits.unified.end()) continue;
    const std::string& text = found->second;
    if (text == "max" || std::from_chars(text.data(), text.data() + text.size(), value).ec == std::errc()) number(property, value);
  }
  return properties;
}

Scope Scope::start(const std::string& program, const std::string& unit, const std::string& slice, const std::string& description,
                   const isolate::Limits& limits) {
  std::vector<std::string> args{"start", unit, slice, description}, properties = properties_of(limits);
  args.insert(args.end(), properties.begin(), properties.end());
  Helper helper = start_helper(program, args);
  Scope scope;
  scope.cgroup_ = read_line(helper.out);
  if (scope.cgroup_.empty()) refuse(std::move(helper));
  scope.keeper_ = std::move(helper.child);
  scope.hold_ = std::move(helper.in);
  return scope;
}

void change_scope(const std::string& program, const std::string& unit, const isolate::Limits& limits) {
  std::vector<std::string> args{"set", unit}, properties = properties_of(limits);
  if (properties.empty()) return;
  args.insert(args.end(), properties.begin(), properties.end());
  run_helper(program, args);
}

void stop_scope(const std::string& program, const std::string& unit) { run_helper(program, {"stop", unit}); }

}  // namespace runner::systemd
