// CRIU stops each thread that it lets go by a hardware breakpoint, which to Linux is a perf event of a task. Where there is none on the
// whole machine the first one turns on what every switch of tasks must ask from then on, and waits until each CPU knows it, by an RCU grace
// period: 4 to 16 ms (account_event() in the kernel's events/core.c). A second after the last one has gone it is turned off again.
#pragma once

#include "isolate/sys/child.h"

namespace isolate {

/// A process that has such an event, and thereby waits for that in parallel; until it is ended. Where it may not have one it has no effect.
/// The caller must be single-threaded.
sys::Child ready_breakpoints();

}  // namespace isolate
