// The loop gives up all that it does not need, before it hears the first byte of a model or of a tool.
#pragma once

#include <cstdint>
#include <string>

namespace runner::agent {

/// As root: `folder` becomes the root of its file system, and it runs as this user. Always: no new privileges, no core, not to be looked into by
/// others of its user, and a filter that refuses programs, sockets, tracing, mounts, modules and other kernel interfaces. Returns the path of
/// the folder as it is from now on.
std::string confine(const std::string& folder, std::uint32_t id);

}  // namespace runner::agent
