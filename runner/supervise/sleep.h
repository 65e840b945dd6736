// The sleep of a session in which nothing happens (`run --sleep-after`): it goes to disk (to_disk.h), or its processes are frozen, and
// thawed by the next request.
//
// Whatever PID 1 says or is told is something that happens, and so is whoever comes to the control socket or leaves it. While somebody
// waits there for an answer the session stays awake, and while it computes: one hundredth of a CPU is the most that counts as idle.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>

#include "isolate/cgroup.h"
#include "runner/supervise/calls.h"

namespace runner::supervise {

class Sleep {
 public:
  /// `tell` is called before the group is frozen and after it was thawed, so that who finds it frozen can know by whom. `to_disk` is asked
  /// first: when it says true, the session is about to go.
  Sleep(isolate::Cgroup group, std::uint64_t after_ms, std::function<bool()> to_disk, std::function<void(bool asleep)> tell)
      : group_(std::move(group)), after_ms_(after_ms), to_disk_(std::move(to_disk)), tell_(std::move(tell)) {}

  void stir();             ///< something has happened
  int time_left() const;   ///< milliseconds until check() has something to do
  void check(bool busy);   ///< what is to be done when its time has come, unless somebody waits for it
  bool asleep() const { return asleep_; }

 private:
  isolate::Cgroup group_;
  std::uint64_t after_ms_;
  std::function<bool()> to_disk_;
  std::function<void(bool)> tell_;
  Clock::time_point quiet_since_ = Clock::now();
  std::optional<std::uint64_t> cpu_us_;  // used when it had been quiet for a while
  bool asleep_ = false;
};

}  // namespace runner::supervise
