// A policy is the most that any config may have: YAML under policies/, chosen by name or by path.
//
//   version: 1                       # required, in every file
//   extends: default                 # a name, or a path from this file; single values override, lists replace
//   limits: {memory: 512M, pids: 64}
//
// Every key is a row in the table of policy_settings.cc, with what it means and why. What a policy does not set has the
// value given here, and that is the closed one.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "runner/config/diagnostics.h"

namespace runner {

struct Policy {
  enum class View { Host, None };
  enum class Missing { Error, Warn };
  enum class Kept { Share, Copy, Exclude };

  struct Rootfs {
    View view = View::None;           // None: the caller must bring a root with --rootfs
    std::vector<std::string> expose;  // more of the host, shown read-only in the same place; absolute, without "."/".."
  };
  struct User {                  // who the workload is inside; ids 0..65535
    std::string name = "agent";  // "agent" (1000:1000), "root" (0:0), or empty for bare ids
    std::uint32_t uid = 1000, gid = 1000;
  };
  struct Workspace {
    std::string path = "/workspace";  // inside; absolute
    std::string volume;               // what is there unless the caller brings something; empty: a folder that ends with the session
    bool read_only_inputs = false;    // of its folder "inputs"
    std::optional<std::uint64_t> quota;  // bytes, 4M..16T, of the workspace alone
    Kept snapshot = Kept::Share;         // what a session that comes out of a snapshot sees there
  };
  struct Binds {
    std::vector<std::string> writable;                // inside: a -v at or below one of these may be writable
    std::vector<std::string> forbid_sources = {"/"};  // on the host: see forbidden_source()
  };
  struct Limits {                         // of the whole sandbox; empty: this policy sets no limit
    std::optional<std::uint64_t> memory;  // bytes, 4M..1024T
    std::optional<std::uint64_t> cpus;    // thousandths of a CPU: 1500 is one and a half; to 1024 CPUs
    std::optional<std::uint64_t> pids;    // processes and threads, 1..4194304
    std::optional<std::uint64_t> disk;    // bytes that the writable layer may take, 4M..16T
    std::optional<std::uint64_t> wall;    // milliseconds from start to the end, 1 ms..30 days
    std::optional<std::uint64_t> output;  // bytes of stdout and stderr together, 1K..1T
  };
  struct Rlimit {
    std::uint64_t soft = 0, hard = 0;  // kUnlimited is RLIM_INFINITY
    bool operator==(const Rlimit&) const = default;
  };
  static constexpr std::uint64_t kLeastDisk = 4 << 20;              // less would be taken by the file system itself
  static constexpr std::uint64_t kMostDisk = std::uint64_t{1} << 44;  // the most of ext4 with its usual blocks
  static constexpr std::uint64_t kUnlimited = ~std::uint64_t{0};

  std::string name;                // the file's, without ".yaml"
  std::string description;         // of this file only: it is not inherited
  std::vector<std::string> files;  // this policy's first, then what it extends
  Rootfs rootfs;
  User user;
  Workspace workspace;
  Binds binds;
  Limits limits;
  Limits tool_call;                // memory, pids and wall only: the most of one call in the session
  Missing on_missing = Missing::Error;    // a limit that this host cannot enforce
  bool cold_when_unfit = false;           // a snapshot whose processes cannot go on here: its files do, with the command begun anew
  std::vector<std::string> capabilities;  // the most the workload may have, as "CAP_NET_BIND_SERVICE"
  std::vector<std::string> seccomp = {"agent", "agent-arguments"};  // names or paths; all are loaded. Empty: no filter
  std::map<std::string, std::string> environment;  // set for every workload; the caller cannot change it
  std::map<std::string, Rlimit> rlimits;           // by name, "nofile": getrlimit(2) has the units
  std::string hostname;                            // empty: the plan chooses

  std::map<std::string, Where> set_at;  // "limits.memory": where the value in force was written

  /// For messages about a value: where it was set, or only the policy's name if it was not.
  Where where(const std::string& setting) const;
};

/// `name_or_path`: a name (no '/', no ".yaml") is FOLDER/NAME.yaml in the first folder that has it. Nothing when
/// anything is wrong; `wrong` then holds every mistake of every file involved.
std::optional<Policy> load_policy(const std::string& name_or_path, const std::vector<std::string>& folders,
                                  Diagnostics& wrong);

/// A policy that is not in a file. It can extend nothing. `source` stands for the file's name.
std::optional<Policy> parse_policy_text(const std::string& source, std::string_view text, Diagnostics& wrong);

/// One line a setting: its value, where it was set, and what it is for.
std::string explain_policy(const Policy& policy);

/// As it stands in a policy: "share", "copy" or "exclude".
const char* word(Policy::Kept kept);

/// The names that load_policy() would find, sorted.
std::vector<std::string> list_policies(const std::vector<std::string>& folders);

/// Whether a bind may be writable at this place inside the sandbox.
bool may_be_writable(const Policy& policy, std::string_view to);

/// The entry of forbid_sources because of which the host's `from` may not be bound: `from` is that place, or below it,
/// or would show it. "/" forbids only itself. `from` must be absolute and free of symbolic links: realpath(3).
std::optional<std::string> forbidden_source(const Policy& policy, std::string_view from);

}  // namespace runner
