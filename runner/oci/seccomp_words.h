// The words of seccomp profiles, one table each, and the parts that the specification's format and docker's share.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "isolate/plan.h"
#include "runner/oci/json.h"

namespace runner::oci {

// What is accepted, for `features`.
std::vector<std::string> seccomp_actions();
std::vector<std::string> seccomp_operators();
std::vector<std::string> seccomp_architectures();
std::vector<std::string> seccomp_flags();

/// SCMP_ACT_*; a mistake when it is missing, unknown, or not built yet.
std::optional<isolate::SeccompAction> read_seccomp_action(json::Value field);
/// Only SCMP_ACT_ERRNO and SCMP_ACT_TRACE give a number.
void read_seccomp_errno(json::Value field, isolate::SeccompAction action, std::uint32_t& to);
void read_seccomp_arguments(json::Value list, std::vector<isolate::SeccompArgument>& to);
void read_seccomp_architectures(json::Value list, std::vector<std::string>& to);
void read_seccomp_flags(json::Value list, std::vector<std::string>& to);

}  // namespace runner::oci
