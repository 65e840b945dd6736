// The `resources` object of the specification alone in a text: what `update --resources` takes.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "isolate/plan.h"
#include "runner/config/diagnostics.h"

namespace runner::oci {

/// Only what the text names is in the answer. A device list is as it stands there, without the default devices.
std::optional<isolate::Limits> read_resources(std::string_view text, const std::string& name,
                                              std::vector<std::string>& warnings, Diagnostics& wrong);

}  // namespace runner::oci
