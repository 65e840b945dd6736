#include "runner/oci/seccomp_words.h"

#include <algorithm>
#include <string_view>

namespace runner::oci {

using isolate::SeccompAction;
using json::in_quotes;

namespace {

// Each table is sorted, as `features` shows it.
constexpr std::pair<std::string_view, SeccompAction> kActions[] = {
    {"SCMP_ACT_ALLOW", SeccompAction::Allow},
    {"SCMP_ACT_ERRNO", SeccompAction::Errno},
    {"SCMP_ACT_KILL", SeccompAction::KillThread},
    {"SCMP_ACT_KILL_PROCESS", SeccompAction::KillProcess},
    {"SCMP_ACT_KILL_THREAD", SeccompAction::KillThread},
    {"SCMP_ACT_LOG", SeccompAction::Log},
    {"SCMP_ACT_NOTIFY", SeccompAction::Notify},
    {"SCMP_ACT_TRACE", SeccompAction::Trace},
    {"SCMP_ACT_TRAP", SeccompAction::Trap},
};

constexpr std::string_view kOperators[] = {"SCMP_CMP_EQ", "SCMP_CMP_GE",        "SCMP_CMP_GT", "SCMP_CMP_LE",
                                           "SCMP_CMP_LT", "SCMP_CMP_MASKED_EQ", "SCMP_CMP_NE"};

constexpr std::string_view kArchitectures[] = {
    "SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM",      "SCMP_ARCH_MIPS",        "SCMP_ARCH_MIPS64",  "SCMP_ARCH_MIPS64N32",
    "SCMP_ARCH_MIPSEL",  "SCMP_ARCH_MIPSEL64", "SCMP_ARCH_MIPSEL64N32", "SCMP_ARCH_PARISC",  "SCMP_ARCH_PARISC64",
    "SCMP_ARCH_PPC",     "SCMP_ARCH_PPC64",    "SCMP_ARCH_PPC64LE",     "SCMP_ARCH_RISCV64", "SCMP_ARCH_S390",
    "SCMP_ARCH_S390X",   "SCMP_ARCH_X32",      "SCMP_ARCH_X86",         "SCMP_ARCH_X86_64"};

constexpr std::string_view kFlags[] = {"SECCOMP_FILTER_FLAG_LOG", "SECCOMP_FILTER_FLAG_SPEC_ALLOW",
                                       "SECCOMP_FILTER_FLAG_TSYNC", "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"};

template <typename Table>
bool holds(const Table& table, std::string_view name) {
  return std::find(std::begin(table), std::end(table), name) != std::end(table);
}

template <typename Table>
std::vector<std::string> names(const Table& table) {
  return {std::begin(table), std::end(table)};
}

template <typename Table>
void read_names(json::Value list, const Table& table, const char* what, std::vector<std::string>& to) {
  std::vector<std::string> words;
  if (!list.read(words)) return;
  std::size_t i = 0;
  for (json::Value each : list.values())
    if (const std::string& word = words[i++]; !holds(table, word))
      each.wrong("{} is not a seccomp {} that this version knows", in_quotes(word), what);
  to = std::move(words);
}

}  // namespace

std::vector<std::string> seccomp_actions() {
  std::vector<std::string> list;
  for (const auto& [name, action] : kActions) list.emplace_back(name);
  return list;
}
std::vector<std::string> seccomp_operators() { return names(kOperators); }
std::vector<std::string> seccomp_architectures() { return names(kArchitectures); }
std::vector<std::string> seccomp_flags() { return names(kFlags); }

std::optional<SeccompAction> read_seccomp_action(json::Value field) {
  std::string name;
  if (!field.require(name)) return std::nullopt;
  for (const auto& [known, action] : kActions)
    if (name == known) return action;
  field.wrong("must be a seccomp action such as SCMP_ACT_ERRNO, not {}", in_quotes(name));
  return std::nullopt;
}

void read_seccomp_errno(json::Value field, SeccompAction action, std::uint32_t& to) {
  if (!field) return;
  if (action != SeccompAction::Errno && action != SeccompAction::Trace)
    return field.wrong("is only for SCMP_ACT_ERRNO and SCMP_ACT_TRACE");
  // The kernel answers with at most MAX_ERRNO; a tracer is shown 16 bits.
  field.read(to, 0u, action == SeccompAction::Errno ? 4095u : 65535u);
}

void read_seccomp_arguments(json::Value list, std::vector<isolate::SeccompArgument>& to) {
  for (json::Value each : list.array().values()) {
    json::Value entry = each.object();
    if (!entry) continue;
    isolate::SeccompArgument argument;
    entry["index"].require(argument.index, 0u, 5u);
    entry["value"].require(argument.value);
    entry["valueTwo"].read(argument.value_two);
    if (entry["op"].require(argument.op) && !holds(kOperators, argument.op))
      entry["op"].wrong("must be a seccomp operator such as SCMP_CMP_EQ, not {}", in_quotes(argument.op));
    to.push_back(std::move(argument));
  }
}

void read_seccomp_architectures(json::Value list, std::vector<std::string>& to) {
  read_names(list, kArchitectures, "architecture", to);
}
void read_seccomp_flags(json::Value list, std::vector<std::string>& to) { read_names(list, kFlags, "flag", to); }

}  // namespace runner::oci
