// What a child is to have from its first moment, because others in its pid namespace can see it then.
#pragma once

#include <optional>

namespace isolate {

/// While it lives, children are born not dumpable and with this OOM score: a container that lies in wait could otherwise open the
/// child's /proc/PID/exe and its descriptors before its first line has run (CVE-2016-9962, CVE-2019-5736). The score is inherited
/// too, since the /proc files of such a child belong to the host's root.
class Birth {
 public:
  explicit Birth(std::optional<int> oom_score_adj);
  ~Birth();
  Birth(const Birth&) = delete;
  Birth& operator=(const Birth&) = delete;

 private:
  std::optional<int> score_before_;
  int dumpable_before_;
};

}  // namespace isolate
