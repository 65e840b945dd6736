#include "runner/supervise/sleep.h"

#include <utility>

namespace runner::supervise {

namespace {

// The counter is read a tenth of the time after the last event, so that a million events cost no million reads.
constexpr std::uint64_t kSettle = 10;
constexpr std::uint64_t kMicrosecondsAwake = 10;  // of CPU in a millisecond: from here on it computes

}  // namespace

void Sleep::stir() {
  quiet_since_ = Clock::now();
  cpu_us_.reset();
  if (!std::exchange(asleep_, false)) return;
  group_.freeze(false);
  tell_(false);
}

int Sleep::time_left() const { return milliseconds_left(quiet_since_, cpu_us_ || asleep_ ? after_ms_ : after_ms_ / kSettle); }

void Sleep::check(bool busy) {
  if (time_left() > 0) return;
  bool frozen = group_.frozen();
  if (asleep_ && frozen) {
    quiet_since_ = Clock::now();  // only to look again whether it still is
    return;
  }
  if (busy || frozen || asleep_) return stir();  // frozen by `pause`, whose pause it stays; or thawed by somebody else
  std::uint64_t used = group_.counters().cpu_microseconds;
  if (!cpu_us_) {
    cpu_us_ = used;
    return;
  }
  if (used - *cpu_us_ >= after_ms_ * kMicrosecondsAwake) return stir();
  if (to_disk_()) {
    quiet_since_ = Clock::now();
    return;
  }
  tell_(true);
  group_.freeze(true);
  asleep_ = true;
  quiet_since_ = Clock::now();
}

}  // namespace runner::supervise
