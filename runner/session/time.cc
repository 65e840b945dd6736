#include "runner/session/time.h"

#include <fmt/format.h>
#include <time.h>

namespace runner::session {

std::string rfc3339_now() {
  timespec now;
  ::clock_gettime(CLOCK_REALTIME, &now);
  tm parts;
  ::gmtime_r(&now.tv_sec, &parts);
  return fmt::format("{:04}-{:02}-{:02}T{:02}:{:02}:{:02}.{:06}Z", parts.tm_year + 1900, parts.tm_mon + 1, parts.tm_mday, parts.tm_hour,
                     parts.tm_min, parts.tm_sec, now.tv_nsec / 1000);
}

std::optional<std::int64_t> parse_rfc3339(const std::string& text) {
  tm parts{};
  const char* rest = ::strptime(text.c_str(), "%Y-%m-%dT%H:%M:%S", &parts);
  if (!rest || (*rest != '.' && *rest != 'Z') || text.back() != 'Z') return std::nullopt;
  return ::timegm(&parts);
}

}  // namespace runner::session
