// What is done with text of a program that nobody trusts before it is parsed, logged or shown to a model.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace runner::agent {

constexpr int kDeepestJson = 64;                  // lists and objects within each other: those who write and walk a value recurse
constexpr std::size_t kMostJsonValues = 500'000;  // an empty list takes three bytes of text, and fifty of memory
constexpr std::size_t kLongestText = 1u << 20;    // of a result that goes to the model

/// Why a JSON text is not to be parsed at all; empty when it may be. It need not be JSON.
std::string why_not_parse(std::string_view json);

/// Half a surrogate pair, as JavaScript writes a text that was cut inside an emoji, becomes U+FFFD: parsers refuse the whole line for it.
void mend_surrogates(std::string& json);

/// The first bytes in one line of printable ASCII, for a log.
std::string cleaned(std::string_view bytes, std::size_t most = 200);

/// Adds a part of a text as far as `left` bytes go; what is left out is said in the text.
void add_cut(std::string& to, std::string_view part, std::size_t& left);

}  // namespace runner::agent
