// The tables of an expert file, read strictly: each key is asked for by name, and what nobody asked for is a mistake.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "runner/agent/toml.h"
#include "runner/config/diagnostics.h"

namespace runner::agent {

/// What is wrong with one file. It is told in the order of the lines, whatever the order in which it was found.
class Mistakes {
 public:
  explicit Mistakes(std::string source) : source_(std::move(source)) {}

  template <typename... Args>
  void add(toml::Place at, fmt::format_string<Args...> text, Args&&... args) {
    list_.emplace_back(at, fmt::format(text, std::forward<Args>(args)...));
  }
  bool empty() const { return list_.empty(); }
  void tell(Diagnostics& wrong);

 private:
  std::string source_;
  std::vector<std::pair<toml::Place, std::string>> list_;
};

/// An entry of a list of names.
struct Listed {
  std::string text;
  toml::Place at;
};

std::vector<std::string> texts(const std::vector<Listed>& list);

/// One table while it is read. What is refused leaves the value that was there, so that reading goes on.
class Fields {
 public:
  /// `in`: what messages call the table, such as "limits"; empty: it is the file.
  Fields(const toml::Value& table, std::string in, Mistakes& wrong)
      : table_(table), in_(std::move(in)), wrong_(wrong) {}

  /// nullptr when it is not there. A second spelling of the same key may not stand beside the first.
  const toml::Value* find(std::string_view key, std::string_view other = {});
  /// The same, but what is no table is a mistake.
  const toml::Value* find_table(std::string_view key);

  // Each is true when the key was there and good.
  bool text(std::string_view key, std::string& to);
  bool whole(std::string_view key, std::uint64_t& to, std::uint64_t least, std::uint64_t most,
             std::string_view other = {});
  /// In milliseconds: "5m", or a bare number of them.
  bool duration(std::string_view key, std::uint64_t& to, std::uint64_t longest);
  /// One of these words: its index.
  bool choice(std::string_view key, std::span<const std::string_view> words, std::size_t& to);
  /// Of texts. With `once`, the same one twice is a mistake.
  bool list(std::string_view key, std::vector<Listed>& to, bool once = true);

  /// Every key that was not asked for is unknown. Call it last.
  void end();

 private:
  std::string in() const { return in_.empty() ? "" : " in " + in_; }

  const toml::Value& table_;
  std::string in_;
  Mistakes& wrong_;
  std::vector<std::string> asked_;
};

}  // namespace runner::agent
