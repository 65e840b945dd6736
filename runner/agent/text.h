// Text that somebody else wrote, before anything else is done with it: how long it is, and whether it is text at all.
#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>

#include "runner/config/diagnostics.h"

namespace runner::agent {

inline constexpr std::size_t kLargestFile = 1 << 20;
inline constexpr std::size_t kLongestInstruction = 20 << 10;

/// Whether it is UTF-8 without what no reader of the file would see: NUL, control characters other than tab and line
/// feed, marks that reverse the order of reading. `source` names it in messages.
bool check_text(const std::string& source, std::string_view text, Diagnostics& wrong);

/// The whole of a regular file, of which no more than kLargestFile is read. Empty, and said, when that cannot be had.
std::optional<std::string> read_text_file(const std::string& path, Diagnostics& wrong);

/// What experts, skills and tools may be called, since models are told these names: ^[a-zA-Z0-9_-]{1,64}$
bool is_name(std::string_view text);

/// The first bytes of a text, as many as fit, without half a character at its end.
std::string_view cut(std::string_view text, std::size_t most);

/// The text as UTF-8 whatever it was: U+FFFD stands for each byte that is none. NUL is one of them.
std::string as_utf8(std::string_view text);

}  // namespace runner::agent
