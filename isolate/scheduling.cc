#include "isolate/scheduling.h"

#include <sched.h>
#include <sys/personality.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <charconv>

#include "isolate/sys/error.h"

namespace isolate {

using sys::check;

namespace {

constexpr unsigned kMostCpus = 8192;  // CONFIG_NR_CPUS of any distribution

// linux/sched/types.h, which cannot be included beside sched.h: glibc 2.36 has neither the type nor the call.
struct Attributes {
  std::uint32_t size, policy;
  std::uint64_t flags;
  std::int32_t nice;
  std::uint32_t priority;
  std::uint64_t runtime, deadline, period;
};

using Mask = std::vector<unsigned long>;
constexpr unsigned kBits = 8 * sizeof(unsigned long);

void put(const Mask& mask, const std::string& what) {
  check(::syscall(SYS_sched_setaffinity, 0, mask.size() * sizeof(unsigned long), mask.data()), "bind this process to {}", what);
}

}  // namespace

std::optional<std::vector<unsigned>> parse_cpu_list(const std::string& text) {
  std::vector<unsigned> cpus;
  const char *at = text.data(), *end = at + text.size();
  while (at != end) {
    unsigned first = 0, last = 0;
    auto read = std::from_chars(at, end, first);
    if (read.ec != std::errc()) return std::nullopt;
    last = first;
    if (read.ptr != end && *read.ptr == '-') {
      read = std::from_chars(read.ptr + 1, end, last);
      if (read.ec != std::errc()) return std::nullopt;
    }
    if (last < first || last >= kMostCpus) return std::nullopt;
    for (unsigned cpu = first; cpu <= last; ++cpu) cpus.push_back(cpu);
    at = read.ptr;
    if (at == end) break;
    if (*at != ',' || ++at == end) return std::nullopt;
  }
  if (cpus.empty()) return std::nullopt;
  return cpus;
}

void reset_affinity() { put(Mask(kMostCpus / kBits, ~0ul), "all CPUs"); }

void set_affinity(const std::string& cpus) {
  Mask mask(kMostCpus / kBits);
  for (unsigned cpu : parse_cpu_list(cpus).value_or(std::vector<unsigned>())) mask[cpu / kBits] |= 1ul << cpu % kBits;
  put(mask, "CPUs " + cpus);
}

void set_scheduling(const Process& process) {
  if (process.personality) check(::personality(*process.personality), "set personality {:#x}", *process.personality);
  if (process.io_priority) {
    constexpr int kProcess = 1, kClassShift = 13;  // linux/ioprio.h
    const IoPriority& io = *process.io_priority;
    check(::syscall(SYS_ioprio_set, kProcess, 0, io.io_class << kClassShift | io.priority), "set the io priority to class {}, {}", io.io_class, io.priority);
  }
  if (!process.scheduler) return;
  const Scheduler& wanted = *process.scheduler;
  Attributes attributes{sizeof attributes, wanted.policy, wanted.flags, wanted.nice, wanted.priority, wanted.runtime, wanted.deadline, wanted.period};
  if (::syscall(SYS_sched_setattr, 0, &attributes, 0) == 0) return;
  constexpr std::uint32_t kDeadline = 6;
  const char* hint = errno == EPERM && wanted.policy == kDeadline ? " (SCHED_DEADLINE needs CAP_SYS_NICE and all CPUs: process scheduler can't be used together with AllowedCPUs)" : "";
  sys::fail(errno, "set the scheduling policy to number {}{}", wanted.policy, hint);
}

}  // namespace isolate
