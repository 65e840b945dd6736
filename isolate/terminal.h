// Pseudo-terminals made inside the sandbox: pty(7).
#pragma once

#include "isolate/plan.h"
#include "isolate/sys/fd.h"

namespace isolate {

struct TerminalPair {
  sys::Fd master, slave;
  int number = 0;  ///< /dev/pts/<number> inside
};

/// Opens a pair in the devpts mounted at /dev/pts below `root`, sized and owned by `uid`.
TerminalPair open_terminal(int root, const Terminal& size, unsigned uid);

/// Makes `slave` the controlling terminal of a new session and its standard input, output and error.
void take_terminal(int slave);

}  // namespace isolate
