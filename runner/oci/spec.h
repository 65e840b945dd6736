// What `runner spec` writes: a config.json to start from, the one of runc 1.3 but for the host name.
#pragma once

#include <cstdint>
#include <string>

namespace runner::oci {

struct SpecOptions {
  bool rootless = false;           // for the user below, who has no privilege
  std::uint32_t uid = 0, gid = 0;  // effective ids of the caller; only for rootless
  bool cgroup_namespace = true;    // as runc has it: only where cgroup v2 is all there is
};

std::string example_spec(const SpecOptions& options);

}  // namespace runner::oci
