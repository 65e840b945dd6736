// What files take on the disk.
#pragma once

#include <cstdint>
#include <string>

namespace runner::session {

/// Bytes of all blocks below `path`, as du(1) counts them: a file with two names once, other mounts and targets of links not at all.
/// 0 when there is nothing. What vanishes meanwhile is not counted.
std::uint64_t bytes_on_disk(const std::string& path);

}  // namespace runner::session
