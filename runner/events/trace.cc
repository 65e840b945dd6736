#include "runner/events/trace.h"

#include <fmt/format.h>

#include <cstdlib>

#include "runner/events/verify.h"

namespace runner::events {

bool valid_traceparent(std::string_view text) {
  constexpr auto none = std::string_view::npos;
  auto digits = [&](std::size_t at, std::size_t count) { return text.substr(at, count).find_first_not_of("0123456789abcdef") == none; };
  auto zero = [&](std::size_t at, std::size_t count) { return text.substr(at, count).find_first_not_of('0') == none; };
  if (text.size() < 55 || text[2] != '-' || text[35] != '-' || text[52] != '-') return false;
  if (!digits(0, 2) || !digits(3, 32) || !digits(36, 16) || !digits(53, 2)) return false;
  if (zero(3, 32) || zero(36, 16) || text.substr(0, 2) == "ff") return false;
  return text.size() == 55 || (text.substr(0, 2) != "00" && text[55] == '-');  // a later version may say more
}

std::string child_traceparent(std::string_view parent, const Sources& sources) {
  bool valid = valid_traceparent(parent);
  std::string trace = valid ? std::string(parent.substr(3, 32)) : hex(sources.random(16));
  bool sampled = !valid || std::string_view("13579bdf").find(parent[54]) != std::string_view::npos;
  return fmt::format("00-{}-{}-{}", trace, hex(sources.random(8)), sampled ? "01" : "00");
}

std::string caller_traceparent() {
  const char* value = std::getenv("TRACEPARENT");
  return value ? value : "";
}

}  // namespace runner::events
