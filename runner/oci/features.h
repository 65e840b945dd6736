// What `runner features` prints: the specification's features.md. Only what is built is listed, from the tables that
// the parsers use.
#pragma once

#include <string>
#include <vector>

namespace runner::oci {

std::string features_json();

/// The six names of the `hooks` object.
const std::vector<std::string>& hook_names();

}  // namespace runner::oci
