// Named volumes: folders that outlive sessions, and that any session may be given by name.
//
//   <data>/volumes/NAME/    the caller's alone, 0700: nobody on the host reaches what is below
//     volume.json           format version, and when it was made
//     lock                  held shared for each session that uses it; its time is that of the last use
//     data/                 what a session sees
//
// `data` belongs to an id of the host that nothing runs as: not root's, since what a session writes must never be, and not one of a
// session's range, since the next session has another. An id-mapped mount shows it inside as the session's user.
//
// A volume is made aside and renamed, so that it is there complete or not at all. Nothing that a session can write to lies on the way
// to `data`: no link of its making is ever followed.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "isolate/sys/fd.h"
#include "runner/session/directories.h"

namespace runner::session {

struct Volume {
  std::string name;
  std::string data;               // the real path of its files: free of symbolic links
  std::string created;            // RFC 3339
  std::uint32_t uid = 0, gid = 0; // owner of `data`
  std::int64_t used = 0;          // when a session was last given it, seconds since 1970
};

/// One that is there; empty when there is none. Throws for what stands in its place and is none.
std::optional<Volume> find_volume(const Directories& directories, const std::string& name);
/// What it would be, if it were made now: for `plan`, which makes nothing.
Volume imagine_volume(const Directories& directories, const std::string& name);
std::vector<std::string> list_volumes(const Directories& directories);

/// A volume that cannot be removed while the object lives, in this process or in one that was cloned from it.
class VolumeLease {
 public:
  /// Makes it when there is none of that name.
  static VolumeLease take(const Directories& directories, const std::string& name);
  const Volume& volume() const { return volume_; }

 private:
  isolate::sys::Fd lock_;
  Volume volume_;
};

/// False when it is in use. One that does not exist is ENOENT.
bool remove_volume(const Directories& directories, const std::string& name);

}  // namespace runner::session
