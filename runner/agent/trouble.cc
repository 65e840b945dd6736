#include "runner/agent/trouble.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <chrono>
#include <cmath>
#include <nlohmann/json.hpp>
#include <optional>

#include "runner/agent/json_text.h"

namespace runner::agent {

namespace {

using nlohmann::json;

constexpr std::uint64_t kLongestWait = 60'000;
constexpr std::uint64_t kFirstBackoff = 500, kLongestBackoff = 8000;

// What a provider says of its error. Each field may be empty.
struct Said {
  std::string type, code, message;
  int status = 0;  // a code that is a number of HTTP
};

std::string lower(std::string_view text) {
  std::string result(text);
  for (char& c : result)
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
  return result;
}

std::string text_of(const json& object, const char* name) {
  auto found = object.find(name);
  return found != object.end() && found->is_string() ? found->get<std::string>() : std::string();
}

// {"error":{"type","code","message"}}, {"error":"…"}, {"message":"…"}, {"detail":"…"}, or one of them in a list.
Said said_in(std::string_view body) {
  Said said;
  json whole = modest(body) ? json::parse(body, nullptr, false) : json(json::value_t::discarded);
  if (whole.is_array() && !whole.empty()) whole = json(whole.front());
  if (!whole.is_object()) {
    said.message = body;
    return said;
  }
  json error = whole.contains("error") ? whole["error"] : whole;
  if (error.is_string()) said.message = error.get<std::string>();
  if (!error.is_object()) return said;
  said.type = text_of(error, "type");
  said.code = text_of(error, "code");
  if (said.type.empty()) said.type = text_of(error, "status");
  said.message = text_of(error, "message");
  if (said.message.empty()) said.message = text_of(error, "detail");
  if (auto code = error.find("code"); code != error.end() && code->is_number_integer() && *code >= 100 && *code < 600) said.status = *code;
  return said;
}

std::string sentence(const Said& said) {
  std::string name = !said.type.empty() ? said.type : said.code;
  return clipped(name.empty() ? said.message : said.message.empty() ? name : name + ": " + said.message);
}

bool too_long(const Said& said) {
  std::string text = lower(said.type + " " + said.code + " " + said.message);
  constexpr std::string_view kSigns[] = {"context_length", "context length",   "context window",       "context size",        "context limit",
                                         "exceed_context", "maximum context",  "prompt is too long",   "input is too long",   "too many tokens",
                                         "prompt too long", "input too long",  "reduce the length of", "maximum input length", "request too large"};
  return std::any_of(std::begin(kSigns), std::end(kSigns), [&](std::string_view sign) { return text.find(sign) != std::string::npos; });
}

Trouble trouble_of(int status, const Said& said) {
  if (status == 408 || status == 409 || status == 429 || status >= 500) return Trouble::Transient;
  if (status == 413 || (status == 400 && too_long(said))) return Trouble::Overflow;
  return Trouble::Permanent;
}

// The status with which the same error would have come, had it come in time. Unknown ones count as the provider's own fault.
int status_of(const Said& said) {
  constexpr std::pair<std::string_view, int> kKnown[] = {
      {"invalid_request_error", 400}, {"context_length_exceeded", 400}, {"authentication_error", 401}, {"invalid_api_key", 401},
      {"billing_error", 402},         {"permission_error", 403},        {"not_found_error", 404},      {"model_not_found", 404},
      {"request_too_large", 413},     {"rate_limit_error", 429},        {"rate_limit_exceeded", 429},  {"api_error", 500},
      {"server_error", 500},          {"timeout_error", 504},           {"overloaded_error", 529}};
  if (said.status) return said.status;
  for (auto [name, status] : kKnown)
    if (said.type == name || said.code == name) return status;
  return 500;
}

std::string header(const Headers& headers, std::string_view name) {
  for (const auto& [key, value] : headers)
    if (lower(key) == name) {
      std::size_t first = value.find_first_not_of(" \t"), last = value.find_last_not_of(" \t\r\n");
      return first == std::string::npos ? std::string() : value.substr(first, last - first + 1);
    }
  return {};
}

std::optional<double> number(std::string_view text) {
  double value = 0;
  auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size() || !std::isfinite(value)) return std::nullopt;
  return value;
}

// "Wed, 21 Oct 2015 07:28:00 GMT" in seconds of the Unix time. Not strptime(3), which asks the locale.
std::optional<std::int64_t> date(std::string_view text) {
  constexpr std::string_view kMonths = "JanFebMarAprMayJunJulAugSepOctNovDec";
  if (text.size() != 29 || text.substr(3, 2) != ", " || text.substr(25) != " GMT" || text[19] != ':' || text[22] != ':') return std::nullopt;
  auto digits = [&](std::size_t at, std::size_t count) {
    int value = -1;
    auto [end, error] = std::from_chars(text.data() + at, text.data() + at + count, value);
    return error == std::errc() && end == text.data() + at + count ? value : -1;
  };
  std::size_t month = kMonths.find(text.substr(8, 3));
  int day = digits(5, 2), year = digits(12, 4), hour = digits(17, 2), minute = digits(20, 2), second = digits(23, 2);
  if (month == std::string_view::npos || month % 3 || day < 0 || year < 0 || hour < 0 || minute < 0 || second < 0) return std::nullopt;
  using namespace std::chrono;
  year_month_day on{std::chrono::year(year), std::chrono::month(static_cast<unsigned>(month / 3 + 1)), std::chrono::day(static_cast<unsigned>(day))};
  if (!on.ok()) return std::nullopt;
  return sys_days(on).time_since_epoch().count() * std::int64_t{86400} + hour * 3600 + minute * 60 + second;
}

// Milliseconds; 0 when there is none, and when it is out of range, as the vendors' own clients read it.
std::uint64_t retry_after(const Headers& headers, std::int64_t now) {
  double wait = 0;
  std::string plain = header(headers, "retry-after");
  if (auto exact = number(header(headers, "retry-after-ms"))) wait = *exact;
  else if (auto seconds = number(plain)) wait = *seconds * 1000;
  else if (auto until = date(plain)) wait = static_cast<double>(*until - now) * 1000;
  return wait > 0 && wait <= static_cast<double>(kLongestWait) ? static_cast<std::uint64_t>(std::ceil(wait)) : 0;
}

// The bytes of the character at the beginning; 0 when it is no valid UTF-8.
std::size_t character(std::string_view text) {
  auto byte = [&](std::size_t i) { return static_cast<unsigned char>(text[i]); };
  std::size_t size = byte(0) < 0x80 ? 1 : byte(0) < 0xC2 ? 0 : byte(0) < 0xE0 ? 2 : byte(0) < 0xF0 ? 3 : byte(0) < 0xF5 ? 4 : 0;
  if (size > text.size()) return 0;
  for (std::size_t i = 1; i < size; ++i)
    if ((byte(i) & 0xC0) != 0x80) return 0;
  // Overlong forms, surrogates, and what is beyond the last code point.
  if (size > 2 && ((byte(0) == 0xE0 && byte(1) < 0xA0) || (byte(0) == 0xED && byte(1) > 0x9F))) return 0;
  if (size > 3 && ((byte(0) == 0xF0 && byte(1) < 0x90) || (byte(0) == 0xF4 && byte(1) > 0x8F))) return 0;
  return size;
}

// C0, DEL and C1; the separators of lines; and the marks that turn the direction of a text.
bool is_control(std::string_view one) {
  auto first = static_cast<unsigned char>(one[0]);
  if (one.size() == 1) return first < 0x20 || first == 0x7F;
  if (one.size() == 2) return first == 0xC2 && static_cast<unsigned char>(one[1]) < 0xA0;
  return (one >= "\u2028" && one <= "\u202E") || (one >= "\u2066" && one <= "\u2069");
}

}  // namespace

std::string clipped(std::string_view text, std::size_t most) {
  std::string result;
  while (!text.empty()) {
    std::size_t size = character(text);
    std::string_view one = text.substr(0, std::max<std::size_t>(size, 1));
    std::string_view put = size == 0 ? "?" : is_control(one) ? " " : one;
    if (result.size() + put.size() > most) break;
    result += put;
    text.remove_prefix(one.size());
  }
  return result;
}

Failure http_trouble(int status, const Headers& headers, std::string_view body, std::int64_t now) {
  Said said = said_in(body);
  Failure failure{.trouble = trouble_of(status, said), .status = status, .retry_after = retry_after(headers, now)};
  failure.reason = fmt::format("the provider answered {}", status);
  if (std::string text = sentence(said); !text.empty()) failure.reason += ": " + text;
  std::string request = header(headers, "request-id");
  if (request.empty()) request = header(headers, "x-request-id");
  if (!request.empty()) failure.reason += fmt::format(" (request {})", clipped(request, 100));

  std::string should = lower(header(headers, "x-should-retry"));
  if (should == "false") failure.must_not_retry = true;
  // A context that is too long stays too long, whatever they say.
  if (should == "true" && failure.trouble == Trouble::Permanent) failure.trouble = Trouble::Transient;
  return failure;
}

Failure stream_trouble(std::string_view json) {
  Said said = said_in(json);
  std::string text = sentence(said);
  return Failure{.trouble = trouble_of(status_of(said), said),
                 .reason = "the provider broke off its answer" + (text.empty() ? std::string() : ": " + text)};
}

Failure transport_trouble(std::string_view kind, std::string_view message) {
  struct Known {
    std::string_view kind, sentence;
    Trouble trouble;
    bool must_not_retry = false;
  };
  constexpr Known kKnown[] = {{"connect", "cannot connect to the provider", Trouble::Transient},
                              {"tls", "cannot begin an encrypted connection to the provider", Trouble::Transient},
                              {"eof", "the connection to the provider ended before its answer was complete", Trouble::Transient},
                              {"idle", "the provider's answer stood still for too long", Trouble::Timeout},
                              {"first-byte", "the provider did not begin to answer in time", Trouble::Timeout},
                              {"total", "the provider did not complete its answer in time", Trouble::Timeout},
                              {"cancelled", "the request to the provider was cancelled", Trouble::Permanent, true},
                              {"redirect", "the provider answered with a redirect, and the key is for one host only", Trouble::Permanent}};
  std::string told = message.empty() ? std::string() : ": " + clipped(message);
  for (const Known& known : kKnown)
    if (kind == known.kind)
      return Failure{.trouble = known.trouble, .reason = std::string(known.sentence) + told, .must_not_retry = known.must_not_retry};
  return Failure{.trouble = Trouble::Permanent, .reason = "the request to the provider failed" + told};
}

bool worth_retrying(const Failure& failure) {
  return !failure.must_not_retry && failure.trouble != Trouble::Permanent && failure.trouble != Trouble::Overflow;
}

std::uint64_t backoff_ms(unsigned attempt, std::uint64_t random) {
  std::uint64_t whole = attempt < 4 ? kFirstBackoff << attempt : kLongestBackoff;
  // A quarter of it times random / 2^64, in whole numbers, so that it is the same everywhere.
  return whole - ((random >> 32) * whole >> 34);
}

}  // namespace runner::agent
