// The mounts of a session that CRIU takes from us instead of making them again.
#pragma once

#include <string>
#include <vector>

#include "isolate/plan.h"

namespace runner::snapshot {

/// One mount of the sandbox, as /proc/PID/mountinfo has it.
struct MountPoint {
  enum class Kind {
    Ours,       ///< laid out by isolate/restorer.h at the same path
    NoFile,     ///< a mask: /dev/null over a file
    NoFolder,   ///< a mask: an empty file system over a directory
    Criu,       ///< proc, devpts, the root; and a tmpfs that holds something
  };
  std::string at;
  Kind kind = Kind::Ours;
};

/// In records, by nlohmann/json's rules.
void to_json(auto& json, const MountPoint& mount) { json = {{"at", mount.at}, {"kind", mount.kind}}; }
void from_json(const auto& json, MountPoint& mount) { json.at("at").get_to(mount.at), json.at("kind").get_to(mount.kind); }

/// Of the process's mount namespace. What lies in a file system of its own in memory (/dev/shm, --tmpfs) is CRIU's to keep.
std::vector<MountPoint> mounts_of(int pid);

/// Which of the plan's mounts stands at exactly this place: the last one, as it hides the others. -1: none.
int planned_at(const isolate::Plan& plan, const std::string& at);

/// CRIU's --external, of a dump and of a restore.
std::vector<std::string> external_at_dump(const std::vector<MountPoint>& mounts);
std::vector<std::string> external_at_restore(const std::vector<MountPoint>& mounts, const isolate::Plan& plan);

}  // namespace runner::snapshot
