// The `linux.seccomp` object: one filter.
#include "runner/oci/config_parts.h"
#include "runner/oci/seccomp_words.h"

namespace runner::oci {

namespace {

void read_rule(json::Value entry, isolate::SeccompRules& to) {
  isolate::SeccompRule rule;
  if (entry["names"].require(rule.names) && rule.names.empty()) entry["names"].wrong("must not be empty");
  std::optional<isolate::SeccompAction> action = read_seccomp_action(entry["action"]);
  if (action) read_seccomp_errno(entry["errnoRet"], rule.action = *action, rule.errno_value);
  read_seccomp_arguments(entry["args"], rule.arguments);
  to.rules.push_back(std::move(rule));  // a call that this machine does not know is passed over when it is compiled
}

}  // namespace

void read_seccomp(json::Value linux, isolate::Plan& to) {
  json::Value profile = linux["seccomp"].object();
  // How runc is told that no filter is wanted.
  if (!profile || (profile["defaultAction"].blank() && profile["syscalls"].blank())) return;
  isolate::SeccompRules rules;
  rules.name = "config.json";
  std::optional<isolate::SeccompAction> action = read_seccomp_action(profile["defaultAction"]);
  if (action) read_seccomp_errno(profile["defaultErrnoRet"], rules.default_action = *action, rules.default_errno);
  read_seccomp_architectures(profile["architectures"], rules.architectures);
  read_seccomp_flags(profile["flags"], rules.flags);
  for (json::Value each : profile["syscalls"].array().values())
    if (json::Value entry = each.object()) read_rule(entry, rules);
  to.seccomp.push_back(std::move(rules));
}

}  // namespace runner::oci
