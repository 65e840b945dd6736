#include "runner/oci/docker_seccomp.h"

#include <string.h>
#include <sys/utsname.h>

#include <algorithm>
#include <cstdio>

#include "isolate/privileges.h"
#include "runner/oci/seccomp_words.h"

namespace runner::oci {

using json::in_quotes;

namespace {

struct Machine {
  const char *kernel, *go, *seccomp;  // uname(2), $GOARCH, libseccomp
};
constexpr Machine kMachines[] = {
    {"x86_64", "amd64", "SCMP_ARCH_X86_64"},
    {"aarch64", "arm64", "SCMP_ARCH_AARCH64"},
    {"riscv64", "riscv64", "SCMP_ARCH_RISCV64"},
    {"ppc64le", "ppc64le", "SCMP_ARCH_PPC64LE"},
    {"s390x", "s390x", "SCMP_ARCH_S390X"},
    {"armv7l", "arm", "SCMP_ARCH_ARM"},
    {"i686", "386", "SCMP_ARCH_X86"},
};

// "4.8", as in "minKernel".
bool parse_version(const std::string& text, unsigned& major, unsigned& minor) {
  int used = 0;
  return text.size() < 16 && std::sscanf(text.c_str(), "%u.%u%n", &major, &minor, &used) == 2 &&
         static_cast<std::size_t>(used) == text.size();
}

bool kernel_is_at_least(json::Value field, const SeccompTarget& target) {
  std::string text;
  unsigned major = 0, minor = 0;
  if (!field.read(text)) return false;
  if (!parse_version(text, major, minor))
    return field.wrong("must be a kernel version such as 4.8, not {}", in_quotes(text)), false;
  return std::pair(target.kernel_major, target.kernel_minor) >= std::pair(major, minor);
}

bool has_capability(const std::string& name, const SeccompTarget& target) {
  int number = isolate::capability_number(name);
  return number >= 0 && target.capabilities & std::uint64_t{1} << number;
}

// All of it must be so. Without conditions it is.
bool includes(json::Value conditions, const SeccompTarget& target) {
  std::vector<std::string> capabilities, machines;
  conditions["caps"].read(capabilities);
  conditions["arches"].read(machines);
  bool old_kernel = conditions["minKernel"] && !kernel_is_at_least(conditions["minKernel"], target);
  bool machine = machines.empty() || std::find(machines.begin(), machines.end(), target.architecture) != machines.end();
  return !old_kernel && machine && std::all_of(capabilities.begin(), capabilities.end(), [&](const auto& c) {
    return has_capability(c, target);
  });
}

// Any of it is enough.
bool excludes(json::Value conditions, const SeccompTarget& target) {
  std::vector<std::string> capabilities, machines;
  conditions["caps"].read(capabilities);
  conditions["arches"].read(machines);
  return kernel_is_at_least(conditions["minKernel"], target) ||
         std::find(machines.begin(), machines.end(), target.architecture) != machines.end() ||
         std::any_of(capabilities.begin(), capabilities.end(),
                     [&](const auto& c) { return has_capability(c, target); });
}

// podman's profiles also give the name: "errno": "ENOSYS". The number counts when both are there.
void read_errno(json::Value number, json::Value name, isolate::SeccompAction action, std::uint32_t& to) {
  std::string text;
  if (number) return read_seccomp_errno(number, action, to);
  if (!name.read(text) || text.empty()) return;
  for (int code = 1; code < 134; ++code)
    if (const char* known = ::strerrorname_np(code); known && text == known)
      return void(to = static_cast<std::uint32_t>(code));
  name.wrong("must be the name of an error such as EPERM, not {}", in_quotes(text));
}

void read_names(json::Value entry, std::vector<std::string>& to) {
  std::string name;
  bool one = entry["name"].read(name) && !name.empty();
  if (one && !entry["names"].blank()) return entry["names"].wrong("is there beside name: only one of them may be");
  if (one)
    to.push_back(std::move(name));
  else if (entry["names"].require(to) && to.empty())
    entry["names"].wrong("must not be empty");
}

// Nobody listens for a session: the calls would look as if the kernel had none of them.
void refuse_notify(json::Value field, isolate::SeccompAction action) {
  if (action == isolate::SeccompAction::Notify) field.wrong("SCMP_ACT_NOTIFY needs a listener, which only a container has (linux.seccomp.listenerPath)");
}

void read_rule(json::Value entry, const SeccompTarget& target, isolate::SeccompRules& to) {
  // Read also when it does not apply here: a mistake in it is one everywhere.
  isolate::SeccompRule rule;
  read_names(entry, rule.names);
  std::optional<isolate::SeccompAction> action = read_seccomp_action(entry["action"]);
  if (action) read_errno(entry["errnoRet"], entry["errno"], rule.action = *action, rule.errno_value), refuse_notify(entry["action"], *action);
  read_seccomp_arguments(entry["args"], rule.arguments);
  bool in = includes(entry["includes"].object(), target), out = excludes(entry["excludes"].object(), target);
  if (in && !out) to.rules.push_back(std::move(rule));
}

void read_architectures(json::Value profile, const SeccompTarget& target, isolate::SeccompRules& to) {
  json::Value map = profile["archMap"].array();
  if (!map.blank() && !profile["architectures"].blank())
    return map.wrong("is there beside architectures: only one of them may be");
  read_seccomp_architectures(profile["architectures"], to.architectures);
  for (json::Value each : map.values()) {
    json::Value entry = each.object();
    std::string name;
    std::vector<std::string> below;
    if (!entry || !entry["architecture"].require(name) || name != target.native) continue;
    read_seccomp_architectures(entry["subArchitectures"], below);
    to.architectures.push_back(name);
    to.architectures.insert(to.architectures.end(), below.begin(), below.end());
  }
}

}  // namespace

SeccompTarget seccomp_target(std::uint64_t capabilities) {
  SeccompTarget target;
  target.capabilities = capabilities;
  utsname system;
  ::uname(&system);
  for (const Machine& machine : kMachines)
    if (std::string_view(system.machine) == machine.kernel)
      target.architecture = machine.go, target.native = machine.seccomp;
  std::sscanf(system.release, "%u.%u", &target.kernel_major, &target.kernel_minor);
  return target;
}

std::optional<isolate::SeccompRules> read_docker_seccomp(std::string_view text, const std::string& name,
                                                         const SeccompTarget& target, Diagnostics& wrong) {
  std::size_t before = wrong.entries().size();
  json::Document document(text, name, wrong);
  if (!document) return std::nullopt;
  isolate::SeccompRules rules;
  rules.name = name;
  json::Value profile = document.root().object();
  std::optional<isolate::SeccompAction> action = profile ? read_seccomp_action(profile["defaultAction"]) : std::nullopt;
  if (action)
    read_errno(profile["defaultErrnoRet"], profile["defaultErrno"], rules.default_action = *action,
               rules.default_errno),
        refuse_notify(profile["defaultAction"], *action);
  read_architectures(profile, target, rules);
  read_seccomp_flags(profile["flags"], rules.flags);
  for (json::Value each : profile["syscalls"].array().values())
    if (json::Value entry = each.object()) read_rule(entry, target, rules);
  if (wrong.entries().size() != before) return std::nullopt;
  return rules;
}

std::optional<isolate::SeccompRules> load_docker_seccomp(const std::string& path, const SeccompTarget& target,
                                                         Diagnostics& wrong) {
  auto text = json::read_text(path, wrong);
  if (!text) return std::nullopt;
  return read_docker_seccomp(*text, path, target, wrong);
}

}  // namespace runner::oci
