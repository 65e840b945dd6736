// libFuzzer: config.json, process.json, resources and seccomp profiles, from any bytes. Nothing on disk is looked at.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "runner/oci/config.h"
#include "runner/oci/docker_seccomp.h"
#include "runner/oci/json.h"
#include "runner/oci/process.h"
#include "runner/oci/resources.h"

using namespace runner;

namespace {

void must(bool fact) {
  if (!fact) std::abort();
}

// Messages go to a terminal and to a log, a line each: whatever the text holds.
void check_messages(const std::vector<std::string>& messages, std::size_t most) {
  must(messages.size() <= most);
  for (const std::string& each : messages)
    for (unsigned char c : each) must(c >= 0x20 && c != 0x7f);
}

// Read, or refused with reasons: never both, never neither.
template <typename Result>
void check(const Result& result, const Diagnostics& wrong) {
  must(result.has_value() == wrong.empty());
  check_messages(wrong.entries(), oci::json::kMostMistakes + 1);
}

void check_container(const oci::Container& container) {
  const isolate::Plan& plan = container.plan;
  must(plan.makes(isolate::NamespaceKind::Mount));
  must(!plan.process.argv.empty());
  must(plan.process.cwd.at(0) == '/');
  must((plan.process.capabilities.effective & ~plan.process.capabilities.permitted) == 0);
  for (const isolate::Mount& mount : plan.mounts)
    must(mount.to.size() > 1 && mount.to[0] == '/' && mount.to.find("/../") == std::string::npos);
  for (const auto& [key, value] : plan.sysctl)
    must(key.find("..") == std::string::npos && key.find("//") == std::string::npos);
  must(plan.cgroup.path.find("/../") == std::string::npos);
  check_messages(container.warnings, oci::json::kMostMistakes);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  std::string_view text(reinterpret_cast<const char*>(data), size);
  oci::LoadOptions options;
  options.id = "c1";
  options.look_at_files = false;
  for (bool privileged : {true, false}) {
    options.privileged = privileged;
    Diagnostics wrong;
    auto container = oci::read_config(text, "config.json", "/bundle", options, wrong);
    check(container, wrong);
    if (container) check_container(*container);
  }
  std::vector<std::string> warnings;
  Diagnostics of_process, of_limits, of_profile;
  check(oci::read_process(text, "process.json", {}, warnings, of_process), of_process);
  check(oci::read_resources(text, "resources.json", warnings, of_limits), of_limits);
  oci::SeccompTarget target;
  target.capabilities = 1u << 21;
  target.kernel_major = 6;
  check(oci::read_docker_seccomp(text, "profile.json", target, of_profile), of_profile);
  return 0;
}
