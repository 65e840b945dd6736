// Takes a snapshot of a session that runs.
//
//   client (here)                         supervisor                    CRIU
//   Park ───────────────────────────────▶ PID 1 parks
//                       ◀─── Parked + record
//   a draft; DUMP ───────────────────────────────────────────────────▶ stops all processes, writes their images
//   post-dump: the writable layer, the workspace, what is mapped                    ◀── waits
//   (suspend: the cgroup is frozen)                                    lets them go
//   (without secrets: all of it is scanned)
//   publish: hashed, synced, renamed
//   Wake + what was made ───────────────▶ goes on; or Forget + name: kills them all, tells session.suspended
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>

#include "isolate/cgroup.h"
#include "runner/session/directories.h"
#include "runner/session/entry.h"
#include "runner/snapshot/secrets.h"

namespace runner::snapshot {

struct TakeOptions {
  std::string name;        // of the snapshot
  std::string criu;        // the program
  bool suspend = false;    // the session ends, to go on from this
  bool layer = true;       // with its files; false: they stay the session's, and nobody else can go on from this
  bool automatic = false;  // nobody gave the name
  std::map<std::string, std::string> contexts;  // of `runner code`: their languages
  std::optional<Secrets> without;               // SecretsFound is thrown when the snapshot would have one of them
};

struct Taken {
  std::string name, id;
  std::uint64_t bytes = 0;         // of CRIU's images
  std::uint64_t layer_bytes = 0;
  std::uint64_t frozen_ms = 0, layer_ms = 0, ms = 0;
};

/// Throws, with the session as it was and nothing left behind.
Taken take(const session::Directories& directories, const isolate::CgroupHost& cgroups, const session::Entry& entry, const TakeOptions& options);

}  // namespace runner::snapshot
