// Any bytes at all as a policy. What must hold: no crash, either a policy or a complaint, every complaint on one line
// and with its place, and a policy that can be explained.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "runner/config/policy.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  runner::Diagnostics wrong;
  auto policy = runner::parse_policy_text("p.yaml", {reinterpret_cast<const char*>(data), size}, wrong);
  if (policy.has_value() != wrong.empty()) std::abort();
  for (const std::string& entry : wrong.entries())
    if (!entry.starts_with("p.yaml:") || entry.find('\n') != std::string::npos) std::abort();
  if (policy && runner::explain_policy(*policy).empty()) std::abort();
  return 0;
}
