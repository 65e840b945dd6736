// What the supervisor and runner-init (PID 1 of a session) say to each other, one SOCK_SEQPACKET message each:
//
//   supervisor                              runner-init
//   spawn + {request, stdin, stdout, stderr} ─▶
//                                           ◀─ started PID [+ {terminal master}]   or   failed STAGE ERRNO PATH TEXT
//   signal N ───────────────────────────────▶  to the program, or to its process group on a terminal
//                                           ◀─ exited CODE SIGNAL
//   (closed) ───────────────────────────────▶  kills everything and ends
//
// The request lies in a memory file, since arguments and environment may be larger than a message.
#pragma once

#include <string>
#include <vector>

#include "isolate/plan.h"
#include "isolate/seccomp.h"

namespace isolate::init {

inline constexpr int kControl = 3;  // the descriptor on which runner-init finds its socket

struct SpawnRequest {
  Process process;
  std::vector<Filter> filters;
};

std::string encode(const SpawnRequest& request);
SpawnRequest decode_spawn(const std::string& bytes);  ///< throws on a message of another version

}  // namespace isolate::init
