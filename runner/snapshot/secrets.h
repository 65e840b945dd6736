// What secrets look like, and where in a stream of bytes there are some. Pure: scan.h reads the files.
#pragma once

#include <bitset>
#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace runner::snapshot {

/// What is looked for: the known forms (private keys in PEM, tokens of AWS, GitHub, Anthropic, OpenAI, Slack, Google and npm, JWTs), each
/// with its own alphabet and length, so that bytes at random are none; and values that the caller knows.
class Secrets {
 public:
  static constexpr std::size_t kShortest = 8;    // a shorter value is found everywhere
  static constexpr std::size_t kLongest = 8192;  // of a secret

  Secrets();
  /// Throws when the value has less than kShortest or more than kLongest bytes. `kind` stands for it in all that is said: it is never shown.
  void add(const std::string& kind, const std::string& value);

 private:
  friend class Search;
  struct Wanted {
    std::string kind, value;
    std::size_t form = 0;  // without a value: which of the known ones
  };
  void add(Wanted wanted, std::string_view begins);
  std::vector<Wanted> all_;
  // By their first four bytes, and the three pairs of neighbours in these: of three places in a row one shows such a pair, so the search
  // looks at each third.
  std::unordered_map<std::uint32_t, std::vector<std::size_t>> begins_;
  std::bitset<65536> pairs_;
};

struct Found {
  std::string kind;
  std::uint64_t offset = 0;  // of the first one
  std::uint64_t count = 0;
  bool operator==(const Found&) const = default;
};

/// Through one file from its beginning, in pieces of any size: what lies across two of them is found too.
class Search {
 public:
  explicit Search(const Secrets& secrets) : secrets_(secrets) {}
  void add(std::string_view bytes);
  void skip(std::uint64_t hole);  ///< zeros, which nothing is found in or across
  std::vector<Found> finish();    ///< by kind

 private:
  void look(std::size_t end);
  void look_at(std::size_t at);
  void end_piece();
  const Secrets& secrets_;
  std::string bytes_;         // what was looked at and may be behind us, and what was not
  std::uint64_t base_ = 0;    // where in the file bytes_ begins
  std::size_t next_ = 0;      // in bytes_: the first place that was not looked at
  std::map<std::string, Found> found_;
};

}  // namespace runner::snapshot
