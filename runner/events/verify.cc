#include "runner/events/verify.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <nettle/hmac.h>
#include <unistd.h>

#include <cerrno>
#include <optional>
#include <system_error>
#include <utility>
#include <vector>

#include "runner/events/segments.h"

namespace runner::events {

namespace {

constexpr std::size_t kLongestLine = 64u << 20;  // so that a damaged log cannot take all memory
constexpr auto kHeadMayLag = 100'000;            // microseconds: between a line and its head lie two system calls

/// Reads a file line by line.
class Lines {
 public:
  Lines(const Descriptor& file, std::string path) : fd_(file.get()), path_(std::move(path)) {}

  /// Empty at the end. The view lives until the next call.
  std::optional<std::string_view> next() {
    std::size_t searched = start_;
    for (;;) {
      std::size_t end = buffer_.find('\n', searched);
      if (end != std::string::npos) {
        std::string_view line(buffer_.data() + start_, end - start_);
        start_ = end + 1;
        return line;
      }
      searched = buffer_.size() - start_;  // where the search goes on, once the front is gone
      buffer_.erase(0, std::exchange(start_, 0));
      if (searched > kLongestLine || !read_more()) return std::nullopt;
    }
  }

  /// Whether bytes are left that are no line: without a newline, or too long.
  bool torn() const { return start_ < buffer_.size(); }
  std::string rest() { return buffer_.substr(start_); }

 private:
  bool read_more() {
    constexpr std::size_t kChunk = 256 << 10;
    std::size_t old = buffer_.size();
    buffer_.resize(old + kChunk);
    ssize_t got;
    do got = ::read(fd_, buffer_.data() + old, kChunk);
    while (got == -1 && errno == EINTR);
    if (got == -1) throw std::system_error(errno, std::generic_category(), "read " + path_);
    buffer_.resize(old + static_cast<std::size_t>(got));
    return got > 0;
  }

  int fd_;
  std::string path_, buffer_;
  std::size_t start_ = 0;
};

std::optional<std::string> find_small_file(const std::string& path) {
  Descriptor file(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW));
  if (file.get() == -1 && errno == ENOENT) return std::nullopt;
  if (file.get() == -1) throw std::system_error(errno, std::generic_category(), "open " + path);
  Lines lines(file, path);
  std::string text;
  while (auto line = lines.next()) text.append(*line) += '\n';
  return text + lines.rest();
}

/// The writer may be at work: two reads that agree are one state of the file.
std::optional<std::string> find_head(const std::string& log) {
  std::optional<std::string> head = find_small_file(head_path(log));
  for (int tries = 0; tries < 10; ++tries) {  // a very busy writer changes it between any two reads
    std::optional<std::string> before = std::exchange(head, find_small_file(head_path(log)));
    if (head == before) break;
  }
  return head;
}

struct Fault {
  std::uint64_t line = 0;
  std::string why;  // empty: none
};

/// What line `number` says against itself or the line before, whose HMAC is `mac_before`.
Fault fault_in(std::string_view line, std::uint64_t number, std::string_view key, std::string_view mac_before) {
  std::optional<std::uint64_t> sequence = parse_sequence(envelope_field(line, "sequence"));
  if (!sequence) return {number, fmt::format("line {} is not an event", number)};
  if (*sequence > number)
    return {number, fmt::format("line {} has sequence {}: lines before it were removed, or it was moved or changed", number, *sequence)};
  if (*sequence < number)
    return {number, fmt::format("line {} has sequence {}: it was repeated, moved or changed, or a line before it was added", number,
                                *sequence)};
  std::string_view prev = envelope_field(line, "prev");
  if (number == 1 && prev != hmac(key, envelope_field(line, "source")))
    return {1, "line 1 was changed, or a line before it was removed, or the key is not the key of this log"};
  if (number > 1 && prev != mac_before)
    return {number - 1, fmt::format("line {} was changed, or a line before it was removed, or the `prev` of line {} was changed",
                                    number - 1, number)};
  return {};
}

/// A log as it stood at one moment.
struct Moment {
  std::vector<LogFile> files;
  std::optional<std::string> head, start;

  static Moment of(const std::string& log) {
    Moment moment;
    moment.files = open_files(log, [&] {
      moment.head = find_head(log);
      moment.start = find_small_file(start_path(log));
    });
    return moment;
  }
};

/// The lines of all its files.
class Log {
 public:
  Log(const std::string& path, const std::vector<LogFile>& files) : path_(path), files_(files) {}

  /// Empty at the end, and where a file but the last ends within a line.
  std::optional<std::string_view> next() {
    for (;; ++at_) {
      if (!lines_) lines_.emplace(files_[at_].file, name());
      if (auto line = lines_->next()) return line;
      if (lines_->torn() || at_ + 1 == files_.size()) return std::nullopt;
      lines_.reset();
    }
  }
  bool torn() const { return lines_ && lines_->torn(); }

  /// Of the file that the last line came from.
  std::uint64_t first() const { return files_[at_].first; }
  std::string name() const { return first() ? segment_path(path_, first()) : path_; }

 private:
  const std::string& path_;
  const std::vector<LogFile>& files_;
  std::size_t at_ = 0;
  std::optional<Lines> lines_;
};

}  // namespace

bool cut_uncovered(const std::string& log) {
  VerifyResult found = verify_log(log);
  if (found.ok || !found.uncovered) return false;
  if (::truncate(log.c_str(), static_cast<off_t>(found.bytes)) == -1)
    throw std::system_error(errno, std::generic_category(), fmt::format("cut {} behind its last whole event", log));
  return true;
}

std::optional<std::string> find_key(const std::string& log) { return find_small_file(key_path(log)); }

std::string hex(std::string_view bytes) {
  constexpr const char* digits = "0123456789abcdef";
  std::string text;
  for (unsigned char byte : bytes) text += {digits[byte >> 4], digits[byte & 15]};
  return text;
}

std::string unhex(std::string_view digits) {
  auto value = [](char c) { return c <= '9' ? c - '0' : c - 'a' + 10; };
  std::string bytes;
  for (std::size_t i = 0; i + 1 < digits.size(); i += 2) bytes += static_cast<char>(value(digits[i]) * 16 + value(digits[i + 1]));
  return bytes;
}

std::string hmac(std::string_view key, std::string_view text) {
  auto bytes = [](std::string_view view) { return reinterpret_cast<const std::uint8_t*>(view.data()); };
  hmac_sha256_ctx context;
  hmac_sha256_set_key(&context, key.size(), bytes(key));
  hmac_sha256_update(&context, text.size(), bytes(text));
  std::uint8_t digest[SHA256_DIGEST_SIZE];
  hmac_sha256_digest(&context, sizeof digest, digest);
  return hex({reinterpret_cast<const char*>(digest), sizeof digest});
}

std::string head_of(std::string_view key, std::uint64_t sequence, std::string_view mac) {
  return fmt::format("{:014} {}\n", sequence, hmac(key, fmt::format("head {:014} {}", sequence, mac)));
}

std::string start_of(std::string_view key, std::uint64_t sequence, std::string_view mac) {
  return fmt::format("{:014} {} {}\n", sequence, mac, hmac(key, fmt::format("start {:014} {}", sequence, mac)));
}

std::string_view envelope_field(std::string_view line, std::string_view name) {
  std::size_t at = line.find(fmt::format("\"{}\":\"", name));
  if (at == std::string_view::npos) return {};
  line.remove_prefix(at + name.size() + 4);
  return line.substr(0, line.find('"'));
}

VerifyResult verify_log(const std::string& log) {
  VerifyResult result;
  auto fail = [&](std::uint64_t line, std::string why) {
    result.bad_line = line;
    result.why = std::move(why);
    return result;
  };
  const std::string key_file = key_path(log), head_file = head_path(log), start_file = start_path(log);
  const Moment moment = Moment::of(log);
  const std::optional<std::string>&head = moment.head, &start = moment.start;
  if (moment.files.empty()) return fail(0, fmt::format("the log {} is missing", log));
  std::optional<std::string> key = find_key(log);
  if (!key) return fail(0, fmt::format("the key {} is missing: nothing can be verified without it", key_file));
  if (key->size() != 32) return fail(0, fmt::format("the key {} was changed: it has {} bytes, not 32", key_file, key->size()));
  if (!head) return fail(0, fmt::format("the head {} is missing: without it nobody can tell where the log ends", head_file));
  std::optional<std::uint64_t> covered = parse_sequence(std::string_view(*head).substr(0, 14));
  if (!covered) return fail(0, fmt::format("the head {} was changed: it does not begin with a sequence", head_file));

  if (start) {
    std::string_view text = *start;
    result.gone = parse_sequence(text.substr(0, 14)).value_or(0);
    result.mac = text.size() > 15 + 64 ? text.substr(15, 64) : "";
    if (result.gone == 0 || text != start_of(*key, result.gone, result.mac))
      return fail(0, fmt::format("the start {} was changed: without it nobody can tell where the log begins", start_file));
  }
  Log lines(log, moment.files);
  for (std::uint64_t number = result.gone + 1; number <= *covered; ++number) {
    std::optional<std::string_view> line = lines.next();
    if (!line)
      return fail(number, fmt::format("the log ends at {} but its head says {}: lines were cut off at the end", number - 1, *covered));
    if (Fault fault = fault_in(*line, number, *key, result.mac); !fault.why.empty()) return fail(fault.line, fault.why);
    result.mac = hmac(*key, *line);
    result.last = *line;
    ++result.lines;
    if (std::uint64_t first = lines.first(); first == 0) {
      result.bytes += line->size() + 1;
    } else if (!result.full.empty() && result.full.back().first == first) {
      result.full.back().last = number, result.full.back().mac = result.mac;
    } else if (first != number) {
      return fail(number, fmt::format("line {} begins {}: a file was renamed", number, lines.name()));
    } else {
      result.full.push_back({first, number, result.mac});
    }
  }
  const std::uint64_t last = result.gone + result.lines;
  if (*head != head_of(*key, last, result.mac))
    return fail(last, fmt::format("line {} was changed, or lines after it were cut off and the head was changed", last));

  bool whole = lines.next().has_value();
  if (whole || lines.torn()) {
    ::usleep(kHeadMayLag);
    result.uncovered = !(whole && (lines.next() || lines.torn()));
    if (find_head(log) == head)
      return fail(last + 1, fmt::format("line {} is not covered by the head: the writer died while writing it, or it was added", last + 1));
  }
  result.ok = true;
  return result;
}

}  // namespace runner::events
