// --secret-env, --secret-file: the caller's own secrets, which a snapshot must not have.
#pragma once

#include <string>
#include <vector>

#include "runner/cli/options.h"
#include "runner/snapshot/secrets.h"

namespace runner::cli {

struct SecretFlags {
  std::vector<std::string> variables, files;

  void declare(Options& options);
  bool given() const { return !variables.empty() || !files.empty(); }
  /// These and the known forms. Throws UsageError when one cannot be had, or is too short to be looked for; none is ever shown.
  snapshot::Secrets read() const;
};

}  // namespace runner::cli
