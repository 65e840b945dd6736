// The namespaces of a tree that CRIU is about to fill: what it leaves empty for us.
#pragma once

#include <sys/types.h>

#include <string>

namespace criu_hooks {

/// Brings the loopback up in the network namespace of `pid`, and gives its UTS namespace a host name. For "post-setup-namespaces", before
/// sockets are restored. The caller must be single-threaded.
void prepare_namespaces(pid_t pid, const std::string& hostname);

}  // namespace criu_hooks
