// Sizes, durations and shares of a CPU as people write them, and back again. Flags, policies and messages share one
// grammar: decimal digits and a unit. Anything else there (a blank, a sign, 0x, a leading zero, a rest) gives nothing.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace runner {

/// "0", "4096". Not "010": C and YAML 1.1 would read it as 8.
std::optional<std::uint64_t> parse_whole(std::string_view text);

/// Bytes: "1048576", "512K", "512M", "2G", "1T", in any case, also as "512MB" or "512MiB". Units are powers of 1024.
std::optional<std::uint64_t> parse_size(std::string_view text);

/// Milliseconds: "250ms", "30s", "5m", "2h". A plain number is seconds.
std::optional<std::uint64_t> parse_duration(std::string_view text);

/// Thousandths of one CPU: "2" is 2000, "1.5" is 1500, and "0.001" the least. At most three decimals.
std::optional<std::uint64_t> parse_cpus(std::string_view text);

/// The shortest text that the parser of the same unit reads as the same number: 2147483648 is "2G", 1500 is "1500".
std::string format_size(std::uint64_t bytes);
std::string format_duration(std::uint64_t milliseconds);
std::string format_cpus(std::uint64_t thousandths);

}  // namespace runner
