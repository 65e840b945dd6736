// What a snapshot of a session would lose, close or fail at, found before anything is stopped.
#pragma once

#include <sys/types.h>

#include <string>
#include <vector>

namespace runner::snapshot {

struct Hazard {
  enum class Effect { Kept, Lost, Closed, Fails };
  pid_t pid = 0;     // inside
  int fd = -1;       // -1: of the process itself
  std::string process, what, remedy;
  Effect effect = Effect::Kept;
};

const char* word(Hazard::Effect effect);

/// Of these processes, which go on meanwhile: what has gone by the time that it is looked at is not told of.
std::vector<Hazard> find_hazards(const std::vector<pid_t>& pids);

}  // namespace runner::snapshot
