// JSON as text. What others wrote, schemas, arguments, thinking, goes into a body byte for byte and comes out of one so: a parser that
// writes it anew would reorder its keys, and with them what caches, signatures and replays depend on.
#pragma once

#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace runner::agent {

/// Whether it is no deeper than code that recurses can bear, and of no more values than memory can. Says nothing else of the text.
bool modest(std::string_view json);

/// Whether it is one JSON object, of valid UTF-8, and modest: fit to be put into another text.
bool is_object(std::string_view json);

/// The text as a JSON string. Bytes that are no UTF-8 become U+FFFD.
std::string json_string(std::string_view text);

/// "[a,b]" of texts that are JSON already.
std::string array_of(const std::vector<std::string>& values);

// Of a text that is known to be valid JSON:
std::string_view member(std::string_view object, std::string_view name);  ///< the text of that value, of the last such; empty: there is none
std::vector<std::string_view> elements(std::string_view array);           ///< none when it is no array

/// An object whose members stay in the order in which they were first set.
class ObjectText {
 public:
  ObjectText& set(std::string_view name, std::string json);
  void erase(std::string_view name);
  bool has(std::string_view name) const;
  /// The members of `options` replace those of the same name; null takes one away. Throws std::invalid_argument if it is no object.
  void merge(std::string_view options);
  std::string text() const;

 private:
  std::vector<std::pair<std::string, std::string>> members_;
};

}  // namespace runner::agent
