// spec and features: what a bundle may say, and what this runtime does with it.
#include <fmt/format.h>
#include <linux/magic.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <stdexcept>

#include "isolate/sys/file.h"
#include "runner/cli/context.h"
#include "runner/oci/features.h"
#include "runner/oci/spec.h"

namespace runner::cli {

int spec_main(Context& context) {
  std::string bundle;
  bool rootless = false;
  Options options("spec", "Write a config.json to start from.");
  options.value("-b,--bundle", bundle, "directory of the bundle");
  // --rootless is a global flag with a value elsewhere; runc's `spec` has it as a flag.
  std::erase_if(context.arguments, [&](const std::string& word) { return word == "--rootless" && (rootless = true); });
  if (!context.parse(options).empty()) throw UsageError("spec: takes no arguments");
  std::string path = (bundle.empty() ? "." : bundle) + "/config.json";
  if (::access(path.c_str(), F_OK) == 0) throw std::runtime_error("file config.json exists. Remove it first");
  struct statfs cgroups;
  bool unified = ::statfs("/sys/fs/cgroup", &cgroups) == 0 && cgroups.f_type == CGROUP2_SUPER_MAGIC;
  isolate::sys::replace_file(path, oci::example_spec({rootless, ::geteuid(), ::getegid(), unified}), 0666);
  return 0;
}

int features_main(Context& context) {
  Options options("features", "Print what this runtime supports, as the OCI specification's features document.");
  if (!context.parse(options).empty()) throw UsageError("features: takes no arguments");
  fmt::print("{}\n", oci::features_json());
  return 0;
}

}  // namespace runner::cli
