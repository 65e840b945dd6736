// Bytes of files and names, made fit for JSON and for a model.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace runner::tools {

bool is_utf8(std::string_view bytes);
/// Without the rest of a character at the beginning and the first part of one at the end.
std::string_view whole_characters(std::string_view bytes, bool at_beginning, bool at_end);
/// A file name as it is, or quoted when it has control characters or is no UTF-8: "a\x0ab".
std::string shown_name(std::string_view name);

}  // namespace runner::tools
