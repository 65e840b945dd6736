// Seccomp profiles in docker's format, which podman and containerd share: rules that depend on the machine and on the
// capabilities of the process. `--security-opt seccomp=FILE`, and our own under policies/seccomp.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "isolate/plan.h"
#include "runner/config/diagnostics.h"

namespace runner::oci {

/// What a profile's conditions are asked of.
struct SeccompTarget {
  std::uint64_t capabilities = 0;           // the bounding set of the process
  std::string architecture = "amd64";       // Go's name, as profiles use it
  std::string native = "SCMP_ARCH_X86_64";  // libseccomp's
  unsigned kernel_major = 0, kernel_minor = 0;
  bool operator==(const SeccompTarget&) const = default;
};

/// This machine and its kernel.
SeccompTarget seccomp_target(std::uint64_t capabilities);

/// Empty when anything is wrong; all that is wrong is in `wrong`. `name` is what messages and the rules call it.
std::optional<isolate::SeccompRules> read_docker_seccomp(std::string_view text, const std::string& name,
                                                         const SeccompTarget& target, Diagnostics& wrong);
std::optional<isolate::SeccompRules> load_docker_seccomp(const std::string& path, const SeccompTarget& target,
                                                         Diagnostics& wrong);

}  // namespace runner::oci
