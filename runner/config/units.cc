#include "runner/config/units.h"

#include <fmt/format.h>

#include <charconv>

namespace runner {

namespace {

constexpr std::string_view kSizeUnits = "kmgt";  // each 1024 times the one before

struct TimeUnit {
  std::string_view name;
  std::uint64_t milliseconds;
};

constexpr TimeUnit kTimeUnits[] = {{"h", 3'600'000}, {"m", 60'000}, {"s", 1000}, {"ms", 1}};

// The number that the text begins with; it is cut off, and what follows stays.
std::optional<std::uint64_t> take_whole(std::string_view& text) {
  std::uint64_t value = 0;
  auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc()) return std::nullopt;
  std::size_t digits = end - text.data();
  if (digits > 1 && text.front() == '0') return std::nullopt;
  text.remove_prefix(digits);
  return value;
}

std::optional<std::uint64_t> times(std::uint64_t value, std::uint64_t factor) {
  std::uint64_t product = 0;
  if (__builtin_mul_overflow(value, factor, &product)) return std::nullopt;
  return product;
}

// Not tolower(3): in a Turkish locale "MiB" is something else.
std::string lower(std::string_view text) {
  std::string result(text);
  for (char& c : result)
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
  return result;
}

}  // namespace

std::optional<std::uint64_t> parse_whole(std::string_view text) {
  auto value = take_whole(text);
  if (!text.empty()) return std::nullopt;
  return value;
}

std::optional<std::uint64_t> parse_size(std::string_view text) {
  auto value = take_whole(text);
  if (!value) return std::nullopt;

  std::string unit = lower(text);
  if (unit.empty() || unit == "b") return value;
  std::size_t power = kSizeUnits.find(unit[0]);
  if (power == std::string_view::npos) return std::nullopt;
  unit.erase(0, 1);
  if (unit != "" && unit != "b" && unit != "ib") return std::nullopt;
  return times(*value, std::uint64_t{1024} << (10 * power));
}

std::optional<std::uint64_t> parse_duration(std::string_view text) {
  auto value = take_whole(text);
  if (!value) return std::nullopt;
  if (text.empty()) text = "s";
  for (const TimeUnit& unit : kTimeUnits)
    if (text == unit.name) return times(*value, unit.milliseconds);
  return std::nullopt;
}

std::optional<std::uint64_t> parse_cpus(std::string_view text) {
  auto whole = take_whole(text);
  if (!whole) return std::nullopt;
  auto thousandths = times(*whole, 1000);
  if (!thousandths) return std::nullopt;

  if (!text.empty()) {
    if (text[0] != '.' || text.size() < 2 || text.size() > 4) return std::nullopt;
    std::uint64_t weight = 100;
    for (char c : text.substr(1)) {
      if (c < '0' || c > '9') return std::nullopt;
      std::uint64_t part = weight * static_cast<std::uint64_t>(c - '0');
      if (__builtin_add_overflow(*thousandths, part, &*thousandths)) return std::nullopt;
      weight /= 10;
    }
  }
  if (*thousandths == 0) return std::nullopt;
  return thousandths;
}

std::string format_size(std::uint64_t bytes) {
  for (std::size_t power = kSizeUnits.size(); power > 0; --power) {
    std::uint64_t unit = std::uint64_t{1} << (10 * power);
    if (bytes && bytes % unit == 0) return fmt::format("{}{}", bytes / unit, "KMGT"[power - 1]);
  }
  return std::to_string(bytes);
}

std::string format_duration(std::uint64_t milliseconds) {
  if (milliseconds == 0) return "0s";
  for (const TimeUnit& unit : kTimeUnits)
    if (milliseconds % unit.milliseconds == 0) return fmt::format("{}{}", milliseconds / unit.milliseconds, unit.name);
  return {};  // not reached: every number is a multiple of 1 ms
}

std::string format_cpus(std::uint64_t thousandths) {
  std::string text = fmt::format("{}.{:03}", thousandths / 1000, thousandths % 1000);
  text.erase(text.find_last_not_of('0') + 1);
  if (text.back() == '.') text.pop_back();
  return text;
}

}  // namespace runner
