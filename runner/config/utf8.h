// UTF-8 as RFC 3629 has it.
#pragma once

#include <cstddef>
#include <string_view>

namespace runner {

struct Character {
  char32_t code = 0;
  std::size_t bytes = 0;  // 0: not UTF-8
};

/// The character at the front of a text that is not empty. No overlong form, no surrogate, none above 10FFFF.
Character next_character(std::string_view text);

}  // namespace runner
