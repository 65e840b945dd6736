// JSON that somebody else wrote: bounded before it is kept, and every mistake in it said by name, all at once.
//
// A Document is a flat list of nodes in the order of the text, so neither reading, walking nor destroying it recurses.
// A Value points into it. The usual way to read a field:
//   process["cwd"].require(to.cwd);    // "config.json: process.cwd: is missing"
//   user["uid"].read(to.uid);          // "config.json: process.user.uid: must be a number from 0 to 4294967295, not -5"
#pragma once

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "runner/config/diagnostics.h"

namespace runner::oci::json {

inline constexpr std::size_t kLargestText = 1u << 20;
inline constexpr std::size_t kDeepest = 64;
inline constexpr std::size_t kMostMistakes = 100;

enum class Kind : std::uint8_t { Null, Bool, Integer, Unsigned, Real, Text, Array, Object };

struct Node {
  std::string_view key;    // in the object around it
  std::string_view text;   // of Kind::Text
  std::uint64_t bits = 0;  // of a bool or a whole number; Integer is two's complement
  std::uint32_t end = 0;   // the first node behind this one and all it holds
  std::uint32_t parent = 0;
  std::uint32_t index = 0;  // among its parent's children
  std::uint32_t count = 0;  // of its own children
  Kind kind = Kind::Null;
};

class Document;
class Children;

/// A value of a document, or the place where one is missing. `null` is missing, as it is to the Go programs that write
/// these files. Valid as long as its document.
class Value {
 public:
  explicit operator bool() const { return node_ != kMissing; }
  bool is(Kind kind) const;
  std::string_view key() const;                  ///< its name in the object around it
  std::string name() const;                      ///< "process.args[0]"
  Value operator[](std::string_view key) const;  ///< of an object; missing when this is none
  std::size_t size() const;                      ///< how many values it holds; 0 for text and numbers
  bool blank() const;                            ///< missing, "", [] or {}

  Value object() const;     ///< itself; missing, and a mistake, when it is something else
  Value array() const;      ///< likewise
  Children values() const;  ///< what it holds, `null` among it; nothing when it holds nothing

  // Reads it if it is there. False, and `to` untouched, when it is missing or wrong.
  bool read(std::string& to) const;
  bool read(bool& to) const;
  bool read(std::vector<std::string>& to) const;
  bool read(std::map<std::string, std::string>& to) const;
  template <std::integral T>
    requires(!std::same_as<T, bool>)
  bool read(T& to, T least = std::numeric_limits<T>::min(), T most = std::numeric_limits<T>::max()) const {
    std::uint64_t bits;
    bool good = std::unsigned_integral<T> ? read_unsigned(bits, least, most) : read_integer(bits, least, most);
    if (good) to = static_cast<T>(bits);
    return good;
  }
  template <std::integral T>
  bool read(std::vector<T>& to, T least = std::numeric_limits<T>::min(), T most = std::numeric_limits<T>::max()) const;
  template <typename T>
    requires(!requires(T t) { t.clear(); })
  bool read(std::optional<T>& to, T least = std::numeric_limits<T>::min(),
            T most = std::numeric_limits<T>::max()) const {
    T value;
    if (!read(value, least, most)) return false;
    to = value;
    return true;
  }

  /// The same, but that it is missing is a mistake.
  template <typename T, typename... Limits>
  bool require(T& to, Limits... limits) const {
    if (!*this) return wrong("is missing"), false;
    return read(to, limits...);
  }

  /// Adds "config.json: process.args[0]: TEXT" to the mistakes.
  template <typename... Args>
  void wrong(fmt::format_string<const Args&...> text, const Args&... args) const {
    complain(fmt::format(text, args...));
  }

 private:
  friend class Document;
  friend class Children;
  static constexpr std::uint32_t kMissing = ~0u;
  Value(const Document* document, std::uint32_t node, std::uint32_t parent, std::string_view key)
      : document_(document), node_(node), parent_(parent), key_(key) {}
  const Node& node() const;
  bool read_unsigned(std::uint64_t& bits, std::uint64_t least, std::uint64_t most) const;
  bool read_integer(std::uint64_t& bits, std::int64_t least, std::int64_t most) const;
  void wrong_kind(const char* wanted) const;
  void complain(const std::string& text) const;

  const Document* document_;
  std::uint32_t node_, parent_;  // the parent only matters when it is missing: for its name
  std::string_view key_;
};

/// For `for (Value each : array.values())`.
class Children {
 public:
  class Iterator {
   public:
    Value operator*() const;
    Iterator& operator++();
    bool operator!=(const Iterator& other) const { return at_ != other.at_; }

   private:
    friend class Children;
    Iterator(const Document* document, std::uint32_t at) : document_(document), at_(at) {}
    const Document* document_;
    std::uint32_t at_;
  };
  Iterator begin() const { return {document_, first_}; }
  Iterator end() const { return {document_, end_}; }

 private:
  friend class Value;
  Children(const Document* document, std::uint32_t first, std::uint32_t end)
      : document_(document), first_(first), end_(end) {}
  const Document* document_;
  std::uint32_t first_, end_;
};

class Document {
 public:
  /// `name` is what messages call the text. Too long, too deep, not JSON, a key twice in one object: false, and said.
  Document(std::string_view text, std::string name, Diagnostics& wrong);
  Document(const Document&) = delete;  // values point to it
  Document& operator=(const Document&) = delete;

  explicit operator bool() const { return good_; }
  Value root() const { return Value(this, 0, 0, {}); }

 private:
  friend class Value;
  friend class Children;
  friend class Builder;
  std::string name_of(std::uint32_t node) const;
  void complain_at(std::string_view text, std::size_t at, const char* reason);

  std::string name_;
  Diagnostics& wrong_;
  mutable std::size_t mistakes_ = 0;
  bool good_ = false;
  std::vector<Node> nodes_;
  std::unique_ptr<char[]> texts_;  // keys and strings with their escapes resolved: never longer than the source
};

/// The contents of a file that may hold a Document. Empty, and said, when it is missing, unreadable or too large.
std::optional<std::string> read_text(const std::string& path, Diagnostics& wrong);

/// Text of somebody else's in a message: in quotes, without control characters, and not endless.
std::string in_quotes(std::string_view text);

template <std::integral T>
bool Value::read(std::vector<T>& to, T least, T most) const {
  if (!array()) return false;
  std::vector<T> list;
  bool good = true;
  for (Value each : values()) {
    T value{};
    good &= each.require(value, least, most);
    list.push_back(value);
  }
  if (good) to = std::move(list);
  return good;
}

}  // namespace runner::oci::json
