// The keys that leave a terminal running: of `attach` and of `exec -t`.
#pragma once

#include <string>

#include "runner/cli/context.h"

namespace runner::cli {

/// "ctrl-p,ctrl-q", as docker writes them, to the bytes that a terminal sends; empty for none. Throws UsageError.
std::string parse_detach_keys(const std::string& text);

}  // namespace runner::cli
