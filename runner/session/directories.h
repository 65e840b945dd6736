// Where sessions and containers are kept, and the ids that sessions run under.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "isolate/sys/fd.h"

namespace runner::session {

/// `run` is lost at boot, `data` is not: design.md section 9.
struct Directories {
  std::string run;   // /run/runner, or $XDG_RUNTIME_DIR/runner
  std::string data;  // /var/lib/runner, or $XDG_DATA_HOME/runner
  std::string ids;   // `run` without --root: ids of the host are the same for all roots

  std::string filters() const { return run + "/.filters"; }  // compiled seccomp programs
  std::string generated(const std::string& id) const { return run + "/" + id + "/root"; }  // a session's Overlay::generated
  std::string session_data(const std::string& id) const { return data + "/sessions/" + id; }
};

/// Whether the caller is an ordinary user, be it as root of a user namespace of their own.
bool is_user();

/// For this user; `run_root` (--root) takes the place of `run`, and of the parent of `data` when it is given.
Directories find_directories(const std::string& run_root);

/// Letters, digits, '_', '.', '+' and '-', not beginning with '.' or '-', at most 128 bytes: what is safe as a file name, a cgroup
/// and a host name. Empty when the id is good, else why it is not.
std::string why_bad_id(const std::string& id);

/// Owners of volumes on the disk: the last 65,536 ids of ours, which are in no session's range.
inline constexpr std::uint32_t kFirstVolumeId = 0x7fff0000, kVolumeIds = 65536;

/// The processes that keep a job and have no rights run as ids of the range before it, which no session gets either.
inline constexpr std::uint32_t kFirstKeeperId = 0x7ffe0000, kKeeperIds = 65536;

/// A range of 65,536 user and group ids of the host that no other session uses while the object lives. A lock on one byte of a file
/// holds it, so that a killed supervisor's range is free at once.
class IdRangeLease {
 public:
  static constexpr std::uint32_t kSize = 65536;
  // 0x70000000 to 0x7ffdffff: above the range of systemd's containers, below 2^31, where ids turn negative for some tools.
  // See "Users, Groups, UIDs and GIDs on systemd systems".
  static constexpr std::uint32_t kFirstId = 0x70000000;
  /// Throws EAGAIN when all 4,094 are taken.
  static IdRangeLease take(const Directories& directories);
  /// The range that begins with `first`; empty when another session has it.
  static std::optional<IdRangeLease> take_at(const Directories& directories, std::uint32_t first);
  std::uint32_t first() const { return first_; }

 private:
  static IdRangeLease open(const Directories& directories);
  isolate::sys::Fd lock_;
  std::uint32_t first_ = 0;
};

}  // namespace runner::session
