// How a session ended, for who waited for that while it removed itself.
//
// Its entry is gone a moment after its end, and its name may be another's. But who has its lock file open keeps it: the supervisor
// writes the end into that file before the entry goes, where only witnesses look.
#pragma once

#include <optional>
#include <string>

#include "isolate/sys/fd.h"
#include "runner/session/entry.h"

namespace runner::session {

struct LastWords {
  std::string result, finished;
  int exit_code = -1;
};

/// By the supervisor, which holds the lock.
void leave_last_words(const Entry& entry, const State& state);

class Witness {
 public:
  /// Of an entry that is there: throws ENOENT when it has just gone.
  explicit Witness(const Entry& entry);
  /// Whether the entry of that name still is the one that this began with.
  bool stands() const;
  /// Empty when its supervisor has not ended in peace, or not yet.
  std::optional<LastWords> last_words() const;

 private:
  std::string path_;
  isolate::sys::Fd lock_;
};

}  // namespace runner::session
