// The chain that makes a log tamper-evident, and its check.
//
//   <log>       one event a line. `prev` of a line is HMAC-SHA256(key, the line before, without its newline), in hex;
//               `prev` of the first line is HMAC-SHA256(key, its `source`)
//   <log>.key   the key: 32 random bytes, mode 0600
//   <log>.head  "sequence seal\n" of the last line, 80 bytes, written in place after each line. The seal is an HMAC of
//               its own kind: the plain one stands in the log as the next `prev`, so anybody could cut the log there
//               and copy it into the head
//   <log>.start "sequence mac seal\n" of the last line that was rotated away (segments.h), once there is one: its HMAC, which
//               is the `prev` of the line behind it, and a seal of a third kind. So the log goes on from there, and nobody
//               else can move its beginning
//
// Who can read the key can forge everything. Who can only write cannot edit, insert, remove, swap or cut lines unseen.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "runner/events/log.h"

namespace runner::events {

struct VerifyResult {
  bool ok = false;
  std::uint64_t bad_line = 0;  ///< the first that is not as it was written; 0 when ok, and when a file is missing or unfit
  std::string why;             ///< empty when ok

  std::uint64_t gone = 0;      ///< how many were rotated away: the log begins behind them
  std::uint64_t lines = 0;     ///< how many are there and were checked
  std::string last;            ///< the last of them, without its newline
  std::string mac;             ///< and its HMAC
  std::vector<Segment> full;   ///< the files before the one that is being written
  std::uint64_t bytes = 0;     ///< of that one
  bool uncovered = false;      ///< not ok only for one line at the end, or a part of one, that the head does not cover
};

/// Reads the log once, from top to bottom, in memory of a few lines. The log may be growing meanwhile, and its files be
/// rotated: lines that come after the call are not looked at. Throws std::system_error when a file is there but cannot be read.
VerifyResult verify_log(const std::string& log);

/// For the log of a writer that was killed between a line and the head that covers it: cuts that line off, of which no other sink was told.
/// False, and nothing done, when that is not what is wrong.
bool cut_uncovered(const std::string& log);

inline std::string key_path(const std::string& log) { return log + ".key"; }
inline std::string head_path(const std::string& log) { return log + ".head"; }

/// Empty when there is no such file.
std::optional<std::string> find_key(const std::string& log);

std::string hex(std::string_view bytes);
std::string unhex(std::string_view digits);  ///< of pairs of lower-case digits, as hex() makes them

/// 64 hex digits.
std::string hmac(std::string_view key, std::string_view text);

/// The contents of the head file after line `sequence` whose HMAC is `mac`; 0 and "" for a log without lines.
std::string head_of(std::string_view key, std::uint64_t sequence, std::string_view mac);

/// The contents of the start file once line `sequence` was the last to go.
std::string start_of(std::string_view key, std::uint64_t sequence, std::string_view mac);

/// A text field of the envelope as it stands in the line: `envelope_field(line, "prev")`. Empty when it is not there.
/// No parser is needed: the envelope comes before `data`, and in a string every quote has a backslash before it.
std::string_view envelope_field(std::string_view line, std::string_view name);

}  // namespace runner::events
