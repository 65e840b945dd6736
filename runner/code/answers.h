// What an interpreter says on its channel (protocol.md), read as what it is: bytes of a program that nobody trusts. A wrong answer is an
// error with a sentence, whatever it is made of.
#pragma once

#include <cstdint>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "runner/events/types.h"

namespace runner::code {

constexpr std::size_t kLongestAnswer = 16u << 20;  // bytes; the drivers keep what a cell displays below 8 MiB
constexpr int kDeepest = 100;                      // lists and objects within each other
constexpr std::size_t kMostResults = 256;
constexpr std::size_t kMostValues = 5'000'000;  // in one answer: an empty list takes three bytes there, and fifty here

struct BadAnswer : std::runtime_error {
  using std::runtime_error::runtime_error;
};

/// It has done all that it was asked before, and takes a cell.
struct Ready {
  std::string id, language, version;
  std::uint64_t cells = 0;  // that ran in this context
  bool operator==(const Ready&) const = default;
};

enum class Status { Ok, Error, Interrupted };

/// A cell has ended.
struct Done {
  std::string id;
  Status status = Status::Ok;
  std::string results;             // a JSON array of MIME bundles, each an object of MIME type to value
  std::vector<std::string> texts;  // their text/plain
  std::uint64_t dropped = 0;       // results beyond the limits
  std::optional<events::Raised> error;
};

using Answer = std::variant<Ready, Done>;

/// One line. Throws BadAnswer.
Answer parse_answer(std::string_view line);

/// Cuts what comes into lines.
class Lines {
 public:
  void add(std::string_view bytes);
  std::optional<std::string> next();
  bool too_long() const { return waiting_.size() - at_ > kLongestAnswer; }  ///< a line that does not end
  void forget() { waiting_.clear(), at_ = looked_ = 0; }

 private:
  std::string waiting_;
  std::size_t at_ = 0, looked_ = 0;  // up to where lines were taken, and a newline was looked for
};

}  // namespace runner::code
