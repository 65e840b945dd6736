// (Config, Policy, Host) -> Plan: the decision. Pure: it asks nobody, so it can be tested and printed.
#pragma once

#include <optional>

#include "isolate/plan.h"
#include "runner/config/diagnostics.h"
#include "runner/config/policy.h"
#include "runner/plan/config.h"
#include "runner/plan/host.h"

namespace runner::plan {

/// What a session is, beside its sandbox.
/// What one further call in the session may use. 0: as much as the session.
struct CallLimits {
  std::uint64_t memory = 0;   // bytes
  std::uint64_t pids = 0;
  std::uint64_t wall_ms = 0;  // of a call that somebody waits for
  bool operator==(const CallLimits&) const = default;
};

struct SessionPlan {
  isolate::Plan sandbox;
  std::string policy;             // its name
  CallLimits call;
  std::vector<std::string> fixed_env; // "NAME=value" of the policy, for every call: no caller changes them
  std::uint64_t wall_ms = 0;      // 0: none
  std::uint64_t output_bytes = 0; // 0: no limit
  std::uint64_t sleep_ms = 0;     // 0: never
  bool cold_when_unfit = false;   // see Policy
  LogSize log;
  std::vector<std::string> volumes; // names of those that it uses
  std::string workspace;            // where it is inside
  Policy::Kept kept = Policy::Kept::Share;  // of it, in a snapshot
  bool operator==(const SessionPlan&) const = default;
};

/// Filters named by the policy and the config, read by the caller: the plan holds rules.
using SeccompProfiles = std::vector<isolate::SeccompRules>;

/// Empty when anything is wrong; all that is wrong is in `wrong`.
std::optional<SessionPlan> make_plan(const Config& config, const Policy& policy, const SeccompProfiles& profiles, const Host& host,
                                     Diagnostics& wrong);

/// Our init, whose program is that file of the host, where it is executed as PID 1: isolate::kInitProgram.
isolate::Mount init_mount(const std::string& program);

/// RLIMIT_*, by its name in a policy: "nofile".
int rlimit_number(const std::string& name);

/// The capabilities a session of this policy and these flags may have; needed to read docker's conditional profiles.
std::uint64_t granted_capabilities(const Config& config, const Policy& policy, Diagnostics& wrong);

}  // namespace runner::plan
