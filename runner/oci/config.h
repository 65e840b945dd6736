// config.json of the OCI runtime specification 1.2, with the meaning that runc gives it, as a Plan.
//
// What this version cannot apply is refused by name, never accepted and ignored; what cgroup v2 does not have, and runc
// therefore passes over, becomes a warning. Unknown fields and annotations are ignored, as the specification asks.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "isolate/plan.h"
#include "runner/config/diagnostics.h"

namespace runner::oci {

inline constexpr const char* kOldestVersion = "1.0.0";
inline constexpr const char* kNewestVersion = "1.2.0";
/// Annotations of our own begin with this. One that this version does not know is a mistake: it asks for something.
inline constexpr const char* kAnnotationPrefix = "dev.runner.";

struct LoadOptions {
  std::string id;
  bool systemd_cgroup = false;    // --systemd-cgroup
  bool cgroups_disabled = false;  // --cgroup-manager disabled
  bool no_pivot = false;          // --no-pivot
  bool privileged = true;         // false: made by an ordinary user
  bool look_at_files = true;      // false: nothing on disk is looked at
};

/// Of --systemd-cgroup: the unit that systemd is asked for.
struct Scope {
  std::string unit;   // "libpod-1.scope"
  std::string slice;  // "machine.slice"; empty: systemd's own choice
  bool operator==(const Scope&) const = default;
};

/// What annotations of ours ask for: kAnnotationPrefix + the name of the field.
struct Asked {
  std::string policy;   // a name, or a path: what it says of rights and limits holds for the container too
  std::string restore;  // a folder that `checkpoint` has written: the container goes on from there
  std::string events;   // a file or a socket, which is told of the container's life
  bool init = false;    // PID 1 is ours, and the process its child
  bool operator==(const Asked&) const = default;
};

struct Container {
  isolate::Plan plan;
  Asked asked;
  std::optional<Scope> scope;  // then plan.cgroup.path is not known before systemd has made it
  std::string oci_version;
  std::map<std::string, std::string> annotations;
  std::string bundle, rootfs;         // absolute
  std::string config;                 // absolute, where it is not the bundle's config.json
  std::vector<std::string> warnings;  // what was passed over, in sentences
  bool operator==(const Container&) const = default;
};

/// Reads `bundle`/config.json, or the file that `config_path_override` names. Empty when anything is wrong; all that is
/// wrong is in `wrong`.
std::optional<Container> load_bundle(const std::string& bundle, const std::string& config_path_override,
                                     const LoadOptions& options, Diagnostics& wrong);

/// The same from its text. `name` is what messages call it.
std::optional<Container> read_config(std::string_view text, const std::string& name, const std::string& bundle,
                                     const LoadOptions& options, Diagnostics& wrong);

}  // namespace runner::oci
