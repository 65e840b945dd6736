#include "runner/events/writer.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <nettle/base64.h>
#include <sys/random.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <exception>
#include <nlohmann/json.hpp>
#include <system_error>

#include "runner/events/files.h"
#include "runner/events/log.h"
#include "runner/events/trace.h"
#include "runner/events/verify.h"

namespace runner::events {

namespace {

using Json = nlohmann::ordered_json;

constexpr char kHex[] = "0123456789abcdef";

[[noreturn]] void fail(const std::string& attempted) { throw std::system_error(errno, std::generic_category(), attempted); }

// --- text --------------------------------------------------------------------------------------------------------

/// Whether eight bytes all stand for themselves in a JSON string: printable ASCII but quote and backslash.
/// The usual trick: a byte is zero, or below n, if subtracting borrows from its top bit.
bool eight_plain(const char* at) {
  constexpr std::uint64_t ones = 0x0101010101010101, tops = ones * 0x80;
  std::uint64_t word;
  std::memcpy(&word, at, 8);
  auto zero = [](std::uint64_t w) { return (w - ones) & ~w; };
  return ((word | (word - ones * 0x20) | zero(word ^ ones * '"') | zero(word ^ ones * '\\') | zero(word ^ ones * 0x7f)) & tops) == 0;
}

struct Character {
  std::size_t bytes = 0;  // 0: not well-formed
  std::uint32_t code = 0;
};

/// The first character of `text`, which is not ASCII. Not well-formed are also what could be said in fewer bytes, and
/// surrogates.
Character decode(std::string_view text) {
  auto lead = static_cast<unsigned char>(text[0]);
  auto bytes = static_cast<std::size_t>(std::countl_one(lead));
  if (bytes < 2 || bytes > 4 || bytes > text.size()) return {};
  std::uint32_t code = lead & (0x7f >> bytes);
  for (char c : text.substr(1, bytes - 1)) {
    if ((c & 0xc0) != 0x80) return {};
    code = code << 6 | (c & 0x3f);
  }
  constexpr std::uint32_t smallest[] = {0, 0, 0x80, 0x800, 0x10000};
  if (code < smallest[bytes] || code > 0x10ffff || (code >= 0xd800 && code <= 0xdfff)) return {};
  return {bytes, code};
}

constexpr char* put_unit(char* to, std::uint32_t unit) {
  for (char c : {'\\', 'u', kHex[unit >> 12 & 15], kHex[unit >> 8 & 15], kHex[unit >> 4 & 15], kHex[unit & 15]}) *to++ = c;
  return to;
}

bool ascii(char c) { return static_cast<signed char>(c) > 0; }  // NUL is not text

/// ASCII as it stands in a JSON string.
struct Escape {
  char text[8] = {};
  std::size_t size = 0;
};
constexpr auto kAscii = [] {
  std::array<Escape, 128> all{};
  for (std::uint32_t c = 0; c < 128; ++c) {
    if (c >= 0x20 && c < 0x7f) all[c] = {{static_cast<char>(c)}, 1};
    else all[c].size = static_cast<std::size_t>(put_unit(all[c].text, c) - all[c].text);
  }
  for (std::string_view pair : {"\nn", "\tt", "\rr", "\"\"", "\\\\"}) all[static_cast<std::size_t>(pair[0])] = {{'\\', pair[1]}, 2};
  return all;
}();

char* put_beyond_ascii(char* to, std::uint32_t code) {
  if (code < 0x10000) return put_unit(to, code);
  to = put_unit(to, 0xd800 + ((code - 0x10000) >> 10));
  return put_unit(to, 0xdc00 + ((code - 0x10000) & 0x3ff));
}

/// Appends text as the inside of a JSON string, in ASCII. False, with `out` as it was, when it is not UTF-8 or has a NUL.
/// It goes through a block on the stack: appending every piece to the string by itself is several times slower.
bool append_text(std::string& out, std::string_view text) {
  const std::size_t before = out.size();
  const char *at = text.data(), *end = at + text.size();
  char block[4096];
  constexpr std::size_t room = 8 * 6 + 12;  // for one turn: eight escapes and a surrogate pair
  while (at < end) {
    char* to = block;
    while (at < end && to < block + sizeof block - room) {
      if (end - at >= 8 && eight_plain(at)) {
        std::memcpy(to, at, 8);
        at += 8, to += 8;
        continue;
      }
      for (const char* eight = std::min(at + 8, end); at < eight && ascii(*at); ++at) {
        const Escape& escape = kAscii[static_cast<std::size_t>(*at)];
        std::memcpy(to, escape.text, 8);
        to += escape.size;
      }
      if (at == end || ascii(*at)) continue;
      Character character = decode({at, static_cast<std::size_t>(end - at)});
      if (character.bytes == 0) {
        out.resize(before);
        return false;
      }
      to = put_beyond_ascii(to, character.code);
      at += character.bytes;
    }
    out.append(block, to);
  }
  return true;
}

/// How many bytes at the end begin a character that is not complete.
std::size_t cut_character(std::string_view text) {
  for (std::size_t back = 1; back <= 3 && back <= text.size(); ++back) {
    auto bytes = static_cast<std::size_t>(std::countl_one(static_cast<unsigned char>(text[text.size() - back])));
    if (bytes != 1) return bytes > back && bytes <= 4 ? back : 0;  // 1: within a character, so look before
  }
  return 0;
}

// --- what the envelope needs ---------------------------------------------------------------------------------------

std::string rfc3339(std::int64_t microseconds) {
  using namespace std::chrono;
  sys_time<std::chrono::microseconds> time{std::chrono::microseconds{microseconds}};
  auto day = floor<days>(time);
  year_month_day date{day};
  hh_mm_ss clock{time - day};
  return fmt::format("{:04}-{:02}-{:02}T{:02}:{:02}:{:02}.{:06}Z", static_cast<int>(date.year()), static_cast<unsigned>(date.month()),
                     static_cast<unsigned>(date.day()), clock.hours().count(), clock.minutes().count(), clock.seconds().count(),
                     clock.subseconds().count());
}

constexpr std::string_view kBase32 = "0123456789ABCDEFGHJKMNPQRSTVWXYZ";  // of Crockford: digits sort as their values do

/// A ULID: ten digits of time and sixteen of chance. Within one millisecond, or after the clock was set back, it is the
/// one before plus one.
std::string next_ulid(std::string before, std::int64_t milliseconds, const Sources& sources) {
  std::string time;
  for (int shift = 45; shift >= 0; shift -= 5) time += kBase32[static_cast<std::size_t>(milliseconds >> shift & 31)];
  if (time > before.substr(0, 10)) {
    for (char byte : sources.random(16)) time += kBase32[byte & 31];
    return time;
  }
  for (auto digit = before.rbegin(); digit != before.rend(); ++digit) {
    std::size_t value = (kBase32.find(*digit) + 1) % 32;
    *digit = kBase32[value];
    if (value != 0) break;
  }
  return before;
}

// --- data ----------------------------------------------------------------------------------------------------------

/// Collects the fields of an event. Text that is not UTF-8 (an argument, a path) is repaired when it is printed.
struct Object {
  Json json = Json::object();

  template <typename Value>
  void operator()(const char* name, const Value& value) {
    if constexpr (requires { value.has_value(); }) {
      if (value) (*this)(name, *value);
    } else if constexpr (requires { word(value); }) {
      json[name] = word(value);
    } else if constexpr (requires { value.json; }) {
      json[name] = Json::parse(value.json);
    } else if constexpr (requires { value.fields(*this); }) {
      Object inner;
      value.fields(inner);
      json[name] = std::move(inner.json);
    } else {
      json[name] = value;
    }
  }
};

// --- files ---------------------------------------------------------------------------------------------------------

std::string make_key(const std::string& log, const Sources& sources) {
  Descriptor file(open_or_fail(key_path(log), O_WRONLY | O_CREAT | O_EXCL));
  std::string key = sources.random(32);
  write_all(file.get(), key, key_path(log));
  return key;
}

}  // namespace

Sources real_sources() {
  auto now = [] {
    using namespace std::chrono;
    return static_cast<std::int64_t>(duration_cast<microseconds>(system_clock::now().time_since_epoch()).count());
  };
  auto random = [](std::size_t count) {
    std::string bytes(count, '\0');
    if (::getrandom(bytes.data(), count, 0) != static_cast<ssize_t>(count)) fail("get random bytes");  // up to 256 come at once
    return bytes;
  };
  return {now, random};
}

void FdSink::line(const Line& line) { write_all(fd_, line.text, fmt::format("events to descriptor {}", fd_)); }

Writer::Writer(std::string key, const std::string& source, const std::string& parent, Sources sources)
    : sources_(std::move(sources)), key_(std::move(key)), source_(source) {
  auto plain = [](char c) { return c > ' ' && c < 0x7f && c != '"' && c != '\\'; };
  if (source.empty() || !std::all_of(source.begin(), source.end(), plain))
    throw std::invalid_argument(fmt::format("the source of events must be a URI reference, not '{}'", source));
  traceparent_ = child_traceparent(parent, sources_);
  mac_ = hmac(key_, source_);  // of the line before the first
}

Writer::Writer(const std::string& source, const std::string& parent, Sources sources)
    : Writer(sources.random(32), source, parent, sources) {}

Writer Writer::create(const std::string& log, const std::string& source, const std::string& parent, Sources sources, LogLimits limits) {
  std::string key = make_key(log, sources);
  Writer writer(key, source, parent, std::move(sources));
  writer.add(std::make_unique<LogSink>(log, key, limits));
  return writer;
}

Writer Writer::resume(const std::string& log, const std::string& source, const std::string& parent, Sources sources, LogLimits limits) {
  VerifyResult before = verify_log(log);
  if (!before.ok) throw std::runtime_error(fmt::format("cannot continue the log {}: {}", log, before.why));
  std::string key = find_key(log).value();
  bool traced = valid_traceparent(parent);
  Writer writer(key, source, traced ? parent : std::string(envelope_field(before.last, "traceparent")), std::move(sources));
  if (before.gone + before.lines > 0) {
    writer.sequence_ = before.gone + before.lines;
    writer.mac_ = before.mac;
    writer.id_ = envelope_field(before.last, "id");
  }
  auto sink = std::make_unique<LogSink>(log, key, limits, before);
  if (sink->bytes() != before.bytes) throw std::runtime_error(fmt::format("cannot continue the log {}: somebody is writing to it", log));
  writer.add(std::move(sink));
  return writer;
}

void Writer::begin(const char* type) {
  std::int64_t now = sources_.now();
  id_ = next_ulid(std::move(id_), now / 1000, sources_);
  line_.clear();
  fmt::format_to(std::back_inserter(line_),
                 R"({{"specversion":"1.0","id":"{}","source":"{}","type":"{}","time":"{}",)"
                 R"("sequence":"{:014}","traceparent":"{}","prev":"{}","data":)",
                 id_, source_, type, rfc3339(now), ++sequence_, traceparent_, mac_);
}

void Writer::end() {
  line_ += '}';
  mac_ = hmac(key_, line_);
  line_ += '\n';
  std::exception_ptr error;
  std::erase_if(sinks_, [&](const std::unique_ptr<Sink>& sink) {
    try {
      sink->line({line_, sequence_, mac_});
      return false;
    } catch (...) {
      if (!error) error = std::current_exception();
      return true;  // another line after the one that is missing would look like a cut
    }
  });
  if (error) std::rethrow_exception(error);
}

void Writer::write(const Event& event) {
  std::visit(
      [this](const auto& it) {
        Object data;
        it.fields(data);
        begin(it.type);
        line_ += data.json.dump(-1, ' ', true, Json::error_handler_t::replace);
      },
      event);
  end();
}

/// By hand: this is the path of all output, and a JSON value would cost two more copies of it.
void Writer::write(const Stdio& chunk) {
  begin(Stdio::type);
  fmt::format_to(std::back_inserter(line_), R"({{"stream":"{}","offset":{},)", word(chunk.stream), chunk.offset);
  if (!chunk.call.empty()) fmt::format_to(std::back_inserter(line_), R"("call":"{}",)", chunk.call);  // a name of ours: no escapes
  if (chunk.dropped > 0) fmt::format_to(std::back_inserter(line_), R"("dropped":{},)", chunk.dropped);
  const std::size_t before = line_.size();
  line_ += R"("text":")";
  if (!append_text(line_, chunk.bytes)) {
    line_.resize(before);
    line_ += R"("base64":")";
    std::size_t at = line_.size();
    line_.resize(at + BASE64_ENCODE_RAW_LENGTH(chunk.bytes.size()));
    base64_encode_raw(line_.data() + at, chunk.bytes.size(), reinterpret_cast<const std::uint8_t*>(chunk.bytes.data()));
  }
  line_ += "\"}";
  end();
}

void StdioSplitter::bytes(std::string_view chunk) {
  std::string joined;
  if (!waiting_.empty()) chunk = joined = waiting_.append(chunk);
  std::size_t cut = cut_character(chunk);
  waiting_ = chunk.substr(chunk.size() - cut);
  chunk.remove_suffix(cut);
  if (!chunk.empty()) write(chunk);
}

void StdioSplitter::drop(std::uint64_t bytes) {
  if (!waiting_.empty()) write(std::exchange(waiting_, {}));
  offset_ += bytes;
  dropped_ += bytes;
}

void StdioSplitter::finish() {
  if (!waiting_.empty() || dropped_ > 0) write(std::exchange(waiting_, {}));
}

void StdioSplitter::write(std::string_view bytes) {
  std::uint64_t at = std::exchange(offset_, offset_ + bytes.size());
  writer_->write(Stdio{.stream = stream_, .offset = at, .bytes = bytes, .dropped = std::exchange(dropped_, 0), .call = call_});
}

}  // namespace runner::events
