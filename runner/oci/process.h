// The `process` object of the specification alone in a file: what `exec --process` takes.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "isolate/plan.h"
#include "runner/config/diagnostics.h"

namespace runner::oci {

/// `otherwise` are the capabilities of a process that says nothing about them: those of the container, as with runc.
std::optional<isolate::Process> load_process(const std::string& path, const isolate::Capabilities& otherwise,
                                             std::vector<std::string>& warnings, Diagnostics& wrong);
std::optional<isolate::Process> read_process(std::string_view text, const std::string& name,
                                             const isolate::Capabilities& otherwise, std::vector<std::string>& warnings,
                                             Diagnostics& wrong);

}  // namespace runner::oci
