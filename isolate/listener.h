// The descriptor of a filter's SCMP_ACT_NOTIFY on its way from the process that loads it to the agent that listens for it:
// seccomp_unotify(2), and the runtime specification's "seccomp listener".
#pragma once

#include "isolate/link.h"
#include "isolate/seccomp.h"
#include "isolate/sys/child.h"

namespace isolate {

/// In the child: loads the filters. Behind one that has a listener, any call may wait for the agent: so the parent is told before;
/// and it does not go on before the agent has the listener.
void load_filters(const std::vector<Filter>& filters, Link& link);

/// In the parent: takes the descriptor out of the child and sends it to the listener's socket with what `state` says. Does nothing when no
/// filter has one.
void pass_listeners(const std::vector<Filter>& filters, Link& link, const sys::Child& child, const ListenerState& state);

}  // namespace isolate
