#include "runner/events/mask.h"

#include <algorithm>
#include <array>
#include <nlohmann/json.hpp>

#include "runner/events/verify.h"

namespace runner::events {

namespace {

using Json = nlohmann::ordered_json;

constexpr std::array<std::string_view, 3> kVaries{"ms", "cpu_us", "pid"};

void blank_numbers(Json& data) {
  if (!data.is_structured()) return;
  for (auto& [name, value] : data.items()) {
    bool varies = std::find(kVaries.begin(), kVaries.end(), name) != kVaries.end();
    if (varies && value.is_number()) value = 0;
    else blank_numbers(value);
  }
}

}  // namespace

std::string mask_line(std::string_view line, std::string_view previous) {
  Json event = Json::parse(line);
  for (const char* name : {"id", "time", "traceparent"}) event.at(name) = "";
  const std::string key(32, '\0');
  event.at("prev") = hmac(key, previous.empty() ? event.at("source").get<std::string>() : previous);
  blank_numbers(event.at("data"));
  return event.dump(-1, ' ', true);
}

std::string mask_stream(std::string_view lines) {
  std::string masked, previous;
  while (!lines.empty()) {
    std::size_t end = std::min(lines.find('\n'), lines.size());
    previous = mask_line(lines.substr(0, end), previous);
    masked += previous + '\n';
    lines.remove_prefix(std::min(end + 1, lines.size()));
  }
  return masked;
}

}  // namespace runner::events
