// What a process may do: credentials(7), capabilities(7), no_new_privs, resource limits.
#pragma once

#include "isolate/plan.h"

namespace isolate {

/// Takes the user, the groups and exactly the capabilities given, in all five sets. Needs CAP_SETPCAP to empty the
/// bounding set and CAP_SETUID/SETGID to change; both are gone afterwards unless they were asked for.
/// With `lock`, securebits are locked so that uid 0 means nothing and no capability can come back by execve.
void become_user(const Process& process, const Capabilities& capabilities, bool lock);

/// What this process has it keeps, and a program that it executes gets nothing. CRIU, which restores the bounding set first, could not give
/// an inheritable capability back that is outside it.
void hand_on_nothing();

void set_rlimits(const std::vector<Rlimit>& limits);
void forbid_new_privileges();

/// CAP_SYS_ADMIN or sys_admin -> 21; -1 when the name is unknown.
int capability_number(const std::string& name);
std::string capability_name(int number);  ///< "CAP_SYS_ADMIN"
int last_capability();                     ///< of this kernel

}  // namespace isolate
