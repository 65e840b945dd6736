// The `linux.seccomp` object: one filter.
#include <algorithm>
#include <cerrno>

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
  // What sets the filter up and waits for the agent would wait for itself.
  for (const std::string& name : rule.names)
    if (rule.action == isolate::SeccompAction::Notify && name == "write") entry["action"].wrong("SCMP_ACT_NOTIFY cannot be used for the write syscall");
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
  profile["listenerPath"].read(rules.listener_path);
  profile["listenerMetadata"].read(rules.listener_metadata);
  if (rules.default_action == isolate::SeccompAction::Notify) profile["defaultAction"].wrong("SCMP_ACT_NOTIFY cannot be used as default action");
  bool notifies = std::any_of(rules.rules.begin(), rules.rules.end(), [](const auto& rule) { return rule.action == isolate::SeccompAction::Notify; });
  if (notifies && rules.listener_path.empty()) profile["listenerPath"].wrong("is missing: SCMP_ACT_NOTIFY needs somebody who listens");
  if (!notifies && !rules.listener_path.empty()) rules.listener_path.clear();
  if (!rules.listener_path.empty() && rules.listener_path[0] != '/') profile["listenerPath"].wrong("must be an absolute path, not {}", json::in_quotes(rules.listener_path));
  bool answers_enosys = rules.default_action == isolate::SeccompAction::Errno && rules.default_errno == ENOSYS;
  rules.newer_unknown = !answers_enosys;
  to.seccomp.push_back(std::move(rules));
}

}  // namespace runner::oci
