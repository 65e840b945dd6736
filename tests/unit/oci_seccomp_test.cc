// Seccomp filters: of config.json, and of profiles in docker's format.
#include <filesystem>

#include "runner/oci/docker_seccomp.h"
#include "tests/unit/oci_support.h"

using namespace runner;
using namespace runner::oci;
using namespace runner::oci::test;
using isolate::SeccompAction;
using isolate::SeccompRules;

namespace {

Json with_seccomp(const char* profile) {
  Json config = plain_config();
  config["linux"]["seccomp"] = Json::parse(profile);
  return config;
}

SeccompTarget target_with(std::uint64_t capabilities = 0) {
  SeccompTarget target;
  target.capabilities = capabilities;
  target.kernel_major = 6;
  target.kernel_minor = 1;
  return target;
}

SeccompRules rules_of(const std::string& text, const SeccompTarget& target = target_with()) {
  Diagnostics wrong;
  auto rules = read_docker_seccomp(text, "profile.json", target, wrong);
  INFO(wrong.text());
  REQUIRE(rules);
  return *rules;
}

std::string mistakes_of(const std::string& text) {
  Diagnostics wrong;
  CHECK(!read_docker_seccomp(text, "profile.json", target_with(), wrong));
  return wrong.text();
}

/// The names of all rules of a profile whose one rule has these conditions.
bool applies(const std::string& conditions, const SeccompTarget& target = target_with()) {
  return !rules_of(R"({"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [{"names": ["x"], "action": "SCMP_ACT_ALLOW", )" +
                       conditions + "}]}",
                   target)
              .rules.empty();
}

constexpr std::uint64_t kSysAdmin = std::uint64_t{1} << 21, kSysPtrace = std::uint64_t{1} << 19;

}  // namespace

TEST_CASE("a filter of config.json becomes rules") {
  isolate::Plan plan = good(with_seccomp(R"({
    "defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 38, "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86"],
    "flags": ["SECCOMP_FILTER_FLAG_LOG"], "listenerPath": "/ignored/without/notify",
    "syscalls": [{"names": ["read", "no_such_call"], "action": "SCMP_ACT_ALLOW"},
      {"names": ["socket"], "action": "SCMP_ACT_ERRNO", "errnoRet": 97, "args": [
        {"index": 0, "value": 18446744073709551615, "valueTwo": 2, "op": "SCMP_CMP_MASKED_EQ"}]},
      {"names": ["a"], "action": "SCMP_ACT_KILL"}, {"names": ["b"], "action": "SCMP_ACT_KILL_PROCESS"},
      {"names": ["c"], "action": "SCMP_ACT_TRACE", "errnoRet": 65535}]})"))
                           .plan;
  REQUIRE(plan.seccomp.size() == 1);
  SeccompRules wanted;
  wanted.name = "config.json";
  wanted.default_action = SeccompAction::Errno;
  wanted.default_errno = 38;
  wanted.architectures = {"SCMP_ARCH_X86_64", "SCMP_ARCH_X86"};
  wanted.flags = {"SECCOMP_FILTER_FLAG_LOG"};
  wanted.rules = {{{"read", "no_such_call"}, SeccompAction::Allow, 1, {}},
                  {{"socket"}, SeccompAction::Errno, 97, {{0, "SCMP_CMP_MASKED_EQ", ~0ull, 2}}},
                  {{"a"}, SeccompAction::KillThread, 1, {}},
                  {{"b"}, SeccompAction::KillProcess, 1, {}},
                  {{"c"}, SeccompAction::Trace, 65535, {}}};
  CHECK(plan.seccomp[0] == wanted);
}

TEST_CASE("an empty filter is none") {
  CHECK(good(with_seccomp("{}")).plan.seccomp.empty());
  CHECK(good(with_seccomp(R"({"defaultAction": "", "syscalls": []})")).plan.seccomp.empty());
  CHECK(good(with_seccomp("null")).plan.seccomp.empty());
  CHECK(mistakes(with_seccomp(R"({"syscalls": [{"names": ["x"], "action": "SCMP_ACT_ALLOW"}]})")) ==
        "config.json: linux.seccomp.defaultAction: is missing");
}

TEST_CASE("a filter that means nothing, or what is not built yet, is refused") {
  CHECK(mistakes(with_seccomp(R"({"defaultAction": "SCMP_ACT_NOTIFY"})")) ==
        "config.json: linux.seccomp.defaultAction: SCMP_ACT_NOTIFY cannot be used as default action");
  CHECK(mistakes(with_seccomp(R"({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["mkdir"], "action": "SCMP_ACT_NOTIFY"}]})")) ==
        "config.json: linux.seccomp.listenerPath: is missing: SCMP_ACT_NOTIFY needs somebody who listens");
  CHECK(mistakes(with_seccomp(R"({"defaultAction": "SCMP_ACT_ALLOW", "listenerPath": "/a", "syscalls": [{"names": ["write"], "action": "SCMP_ACT_NOTIFY"}]})")) ==
        "config.json: linux.seccomp.syscalls[0].action: SCMP_ACT_NOTIFY cannot be used for the write syscall");
  CHECK(
      mistakes(
          with_seccomp(R"({"defaultAction": "SCMP_ACT_ALLOW", "defaultErrnoRet": 5, "architectures": ["SCMP_ARCH_VAX"],
    "flags": ["SECCOMP_FILTER_FLAG_NEW"], "syscalls": [{"names": [], "action": "SCMP_ACT_MAYBE"},
    {"names": ["x"], "action": "SCMP_ACT_ERRNO", "errnoRet": 4096, "args": [{"index": 6, "value": -1, "op": "SCMP_CMP_ISH"}, {}]}]})")) ==
      "config.json: linux.seccomp.defaultErrnoRet: is only for SCMP_ACT_ERRNO and SCMP_ACT_TRACE\n"
      "config.json: linux.seccomp.architectures[0]: 'SCMP_ARCH_VAX' is not a seccomp architecture that this version "
      "knows\n"
      "config.json: linux.seccomp.flags[0]: 'SECCOMP_FILTER_FLAG_NEW' is not a seccomp flag that this "
      "version knows\n"
      "config.json: linux.seccomp.syscalls[0].names: must not be empty\n"
      "config.json: linux.seccomp.syscalls[0].action: must be a seccomp action such as SCMP_ACT_ERRNO, not "
      "'SCMP_ACT_MAYBE'\n"
      "config.json: linux.seccomp.syscalls[1].errnoRet: must be a number from 0 to 4095, not 4096\n"
      "config.json: linux.seccomp.syscalls[1].args[0].index: must be a number from 0 to 5, not 6\n"
      "config.json: linux.seccomp.syscalls[1].args[0].value: must be a number from 0 to 18446744073709551615, not -1\n"
      "config.json: linux.seccomp.syscalls[1].args[0].op: must be a seccomp operator such as SCMP_CMP_EQ, not "
      "'SCMP_CMP_ISH'\n"
      "config.json: linux.seccomp.syscalls[1].args[1].index: is missing\n"
      "config.json: linux.seccomp.syscalls[1].args[1].value: is missing\n"
      "config.json: linux.seccomp.syscalls[1].args[1].op: is missing");
}

TEST_CASE("a rule of docker's format applies where all its inclusions hold") {
  CHECK(applies(R"("includes": {})"));
  CHECK(applies(R"("includes": {"arches": ["arm64", "amd64"]})"));
  CHECK(!applies(R"("includes": {"arches": ["s390", "s390x"]})"));
  CHECK(applies(R"("includes": {"caps": ["CAP_SYS_ADMIN", "CAP_SYS_PTRACE"]})", target_with(kSysAdmin | kSysPtrace)));
  CHECK(!applies(R"("includes": {"caps": ["CAP_SYS_ADMIN", "CAP_SYS_PTRACE"]})", target_with(kSysAdmin)));
  CHECK(!applies(R"("includes": {"caps": ["CAP_FUTURE"]})", target_with(~0ull)));
  CHECK(applies(R"("includes": {"minKernel": "4.8"})"));
  CHECK(applies(R"("includes": {"minKernel": "6.1"})"));
  CHECK(!applies(R"("includes": {"minKernel": "6.2"})"));
  CHECK(!applies(R"("includes": {"minKernel": "10.0"})"));
}

TEST_CASE("and where none of its exclusions holds") {
  CHECK(applies(R"("excludes": {})"));
  CHECK(!applies(R"("excludes": {"arches": ["amd64"]})"));
  CHECK(applies(R"("excludes": {"caps": ["CAP_SYS_ADMIN"]})"));
  CHECK(!applies(R"("excludes": {"caps": ["CAP_SYS_ADMIN", "CAP_SYS_PTRACE"]})", target_with(kSysPtrace)));
  CHECK(!applies(R"("excludes": {"minKernel": "5.0"})"));
  CHECK(applies(R"("excludes": {"minKernel": "6.2"})"));
  CHECK(!applies(R"("includes": {"arches": ["amd64"]}, "excludes": {"caps": ["CAP_SYS_ADMIN"]})",
                 target_with(kSysAdmin)));
}

TEST_CASE("a session has nobody who listens") {
  for (const char* text : {R"({"defaultAction": "SCMP_ACT_NOTIFY"})", R"({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["mkdir"], "action": "SCMP_ACT_NOTIFY"}]})"})
    CHECK(mistakes_of(text).find("SCMP_ACT_NOTIFY needs a listener") != std::string::npos);
}

TEST_CASE("a mistake counts in a rule that does not apply too") {
  CHECK(
      mistakes_of(
          R"({"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [{"names": ["x"], "action": "SCMP_ACT_NO", "includes": {"arches": ["vax"]}}]})") ==
      "profile.json: syscalls[0].action: must be a seccomp action such as SCMP_ACT_ERRNO, not 'SCMP_ACT_NO'");
  CHECK(
      mistakes_of(
          R"({"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [{"names": ["x"], "action": "SCMP_ACT_LOG", "includes": {"minKernel": "new"}}]})") ==
      "profile.json: syscalls[0].includes.minKernel: must be a kernel version such as 4.8, not 'new'");
}

TEST_CASE("the machine's entry of archMap gives the architectures") {
  const char* profile = R"({"defaultAction": "SCMP_ACT_ERRNO", "archMap": [
    {"architecture": "SCMP_ARCH_AARCH64", "subArchitectures": ["SCMP_ARCH_ARM"]},
    {"architecture": "SCMP_ARCH_X86_64", "subArchitectures": ["SCMP_ARCH_X86", "SCMP_ARCH_X32"]}]})";
  CHECK(rules_of(profile).architectures ==
        std::vector<std::string>{"SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"});
  CHECK(
      mistakes_of(
          R"({"defaultAction": "SCMP_ACT_ERRNO", "archMap": [{"architecture": "x"}], "architectures": ["SCMP_ARCH_X86"]})") ==
      "profile.json: archMap: is there beside architectures: only one of them may be");
}

TEST_CASE("a rule names its calls in one of two ways") {
  auto names = [](const std::string& fields) {
    return rules_of(
               R"({"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [{"action": "SCMP_ACT_ALLOW", "comment": "why", )" +
               fields + "}]}")
        .rules.at(0)
        .names;
  };
  CHECK(names(R"("name": "read")") == std::vector<std::string>{"read"});
  CHECK(names(R"("name": "", "names": ["read", "write"])") == std::vector<std::string>{"read", "write"});
  CHECK(
      mistakes_of(
          R"({"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [{"action": "SCMP_ACT_LOG", "name": "a", "names": ["b"]}, {"action": "SCMP_ACT_LOG"}]})") ==
      "profile.json: syscalls[0].names: is there beside name: only one of them may be\n"
      "profile.json: syscalls[1].names: is missing");
}

TEST_CASE("an error is given by number, or by name as podman does") {
  SeccompRules rules = rules_of(R"({"defaultAction": "SCMP_ACT_ERRNO", "defaultErrno": "ENOSYS", "syscalls": [
    {"names": ["a"], "action": "SCMP_ACT_ERRNO", "errno": "EPERM", "errnoRet": 2}, {"names": ["b"], "action": "SCMP_ACT_ERRNO", "errno": "EAFNOSUPPORT"},
    {"names": ["c"], "action": "SCMP_ACT_ERRNO"}]})");
  CHECK(rules.default_errno == 38);
  CHECK(rules.rules[0].errno_value == 2);
  CHECK(rules.rules[1].errno_value == 97);
  CHECK(rules.rules[2].errno_value == 1);
  CHECK(mistakes_of(R"({"defaultAction": "SCMP_ACT_ERRNO", "defaultErrno": "EWHAT"})") ==
        "profile.json: defaultErrno: must be the name of an error such as EPERM, not 'EWHAT'");
  CHECK(mistakes_of("[]") == "profile.json: must be an object, not a list");
}

TEST_CASE("our own profiles are in this format") {
  auto folder = std::filesystem::path(__FILE__).parent_path() / "../../policies/seccomp";
  for (const char* name : {"agent.json", "agent-arguments.json", "default.json"}) {
    if (!std::filesystem::exists(folder / name)) continue;  // the tests were built elsewhere
    Diagnostics wrong;
    auto rules = load_docker_seccomp(folder / name, target_with(), wrong);
    INFO(wrong.text());
    REQUIRE(rules);
    CHECK(rules->rules.size() > 10);
  }
}

TEST_CASE("this machine is one that profiles can be asked of") {
  SeccompTarget target = seccomp_target(5);
  CHECK(target.capabilities == 5);
  CHECK(target.kernel_major >= 5);
  CHECK(target.native.rfind("SCMP_ARCH_", 0) == 0);
}
