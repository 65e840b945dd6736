#include "isolate/birth.h"

#include <sys/prctl.h>

#include <string>

#include "isolate/sys/error.h"
#include "isolate/sys/file.h"

namespace isolate {

using namespace sys;

namespace {

constexpr const char* kScore = "/proc/self/oom_score_adj";

}  // namespace

Birth::Birth(std::optional<int> oom_score_adj) : dumpable_before_(::prctl(PR_GET_DUMPABLE)) {
  if (oom_score_adj) {
    score_before_ = std::stoi(read_file(kScore));
    write_file(kScore, std::to_string(*oom_score_adj));
  }
  check(::prctl(PR_SET_DUMPABLE, 0), "hide this process from the sandbox");
}

Birth::~Birth() {
  ::prctl(PR_SET_DUMPABLE, dumpable_before_);
  try {
    if (score_before_) write_file(kScore, std::to_string(*score_before_));
  } catch (const SystemError&) {
    // an ordinary user may only raise it: this process keeps what it gave
  }
}

}  // namespace isolate
