// Opening and writing, with errors that say what was attempted. For the parts of this folder only.
#pragma once

#include <string>
#include <string_view>

namespace runner::events {

/// Made files are for the owner only. Does not follow a symbolic link.
int open_or_fail(const std::string& path, int flags);
/// Waits as long as the descriptor takes nothing. `name` is for the error.
void write_all(int fd, std::string_view bytes, const std::string& name);

}  // namespace runner::events
