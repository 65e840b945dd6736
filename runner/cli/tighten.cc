#include "runner/cli/tighten.h"

#include <algorithm>
#include <stdexcept>

#include "isolate/privileges.h"
#include "runner/cli/context.h"
#include "runner/cli/run.h"
#include "runner/config/policy.h"
#include "runner/oci/docker_seccomp.h"
#include "runner/plan/session_plan.h"

namespace runner::cli {

namespace {

// The lower of the two; -1 and nothing are "no limit".
void lower(std::optional<std::int64_t>& limit, const std::optional<std::uint64_t>& most) {
  if (most && (!limit || *limit < 0 || static_cast<std::uint64_t>(*limit) > *most)) limit = static_cast<std::int64_t>(*most);
}

void lower_limits(isolate::Limits& limits, const Policy::Limits& most) {
  lower(limits.memory, most.memory);
  if (most.memory) limits.memory_and_swap = limits.memory;  // no swap, as in a session
  lower(limits.pids, most.pids);
  if (most.cpus) {
    std::uint64_t period = limits.cpu_period.value_or(100'000);
    lower(limits.cpu_quota, std::max<std::uint64_t>(1000, *most.cpus * period / 1000));
    limits.cpu_period = period;
  }
}

void lower_rlimits(std::vector<isolate::Rlimit>& rlimits, const std::map<std::string, Policy::Rlimit>& most) {
  for (const auto& [name, limit] : most) {
    int resource = plan::rlimit_number(name);
    auto found = std::find_if(rlimits.begin(), rlimits.end(), [&](const isolate::Rlimit& each) { return each.resource == resource; });
    if (found == rlimits.end()) found = rlimits.insert(found, {resource, limit.soft, limit.hard});
    found->soft = std::min(found->soft, limit.soft);
    found->hard = std::min(found->hard, limit.hard);
  }
}

}  // namespace

void tighten(oci::Container& container, const std::string& name) {
  Diagnostics wrong;
  auto policy = load_policy(name, policy_folders(), wrong);
  isolate::Process& process = container.plan.process;
  if (policy) {
    std::uint64_t granted = 0;
    for (const std::string& capability : policy->capabilities) granted |= std::uint64_t{1} << isolate::capability_number(capability);
    isolate::Capabilities& has = process.capabilities;
    for (std::uint64_t* set : {&has.bounding, &has.effective, &has.permitted, &has.inheritable, &has.ambient}) *set &= granted;
    for (const std::string& profile : policy->seccomp)
      if (auto rules = oci::load_docker_seccomp(find_profile(profile), oci::seccomp_target(has.bounding), wrong)) container.plan.seccomp.push_back(std::move(*rules));
  }
  if (!wrong.empty()) throw std::runtime_error(fmt::format("annotation dev.runner.policy: {}", wrong.text()));
  if (container.plan.cgroup.path.empty() && !container.scope && (policy->limits.memory || policy->limits.cpus || policy->limits.pids))
    throw std::runtime_error(fmt::format("annotation dev.runner.policy: the limits of {} cannot be applied without cgroups (--cgroup-manager disabled)", policy->name));
  process.no_new_privileges = true;
  lower_rlimits(process.rlimits, policy->rlimits);
  lower_limits(container.plan.cgroup.limits, policy->limits);
  container.plan.cgroup.warn_missing = policy->on_missing == Policy::Missing::Warn;
}

}  // namespace runner::cli
