// What the caller of `runner run` asked for: a wish, not yet measured against a policy.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

namespace runner::plan {

struct Volume {
  std::string from, to;      // absolute paths: on the host, inside
  bool read_only = false;
  std::string flag;          // as it was given, for messages: "-v /x:/y"
  std::string name;          // of a volume of runner's own, whose place on the host the caller of make_plan fills in; empty: a bind
};

struct TmpfsWish {
  std::string to;
  std::optional<std::uint64_t> bytes;
};

/// How much of a session's log is kept: docker's defaults for its `local` driver.
struct LogSize {
  std::uint64_t file_bytes = 20 << 20;  // 0: no limit
  std::uint64_t files = 5;
  bool operator==(const LogSize&) const = default;
};

struct Config {
  std::string id;
  std::vector<std::string> argv;
  std::string rootfs = "host";                 // or a directory
  std::vector<Volume> volumes;
  std::vector<TmpfsWish> tmpfs;
  std::vector<std::string> env;                // NAME=value
  std::string workdir, user, hostname;         // empty: the policy's
  std::optional<std::uint64_t> memory;         // bytes
  std::optional<std::uint64_t> disk;           // bytes
  std::optional<std::uint64_t> cpus;           // thousandths of one CPU
  std::optional<std::uint64_t> pids;
  std::optional<std::uint64_t> wall_ms;        // --timeout
  std::optional<std::uint64_t> sleep_ms;       // --sleep-after
  LogSize log;                                 // --log-opt
  std::vector<std::string> cap_drop, cap_add;  // names, or ALL
  std::vector<std::string> seccomp_profiles;   // files; loaded beside the policy's
  bool read_only = false, terminal = false;
  unsigned short rows = 0, columns = 0;        // of the caller's terminal
  std::optional<std::uint64_t> scrollback;     // bytes of it that are kept
  bool own_workspace = false;                  // a folder of the session's own, whatever `volumes` have there: it comes out of a snapshot
  bool workspace_read_only = false;            // that one
  bool remove = false;                        // nothing of it is to last: --rm
  std::map<std::string, std::string> labels;
};

}  // namespace runner::plan
