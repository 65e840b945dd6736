// JSON of others: what is refused before it is kept, and how mistakes are named.
#include <doctest/doctest.h>

#include <chrono>

#include "runner/oci/json.h"

using namespace runner;
using namespace runner::oci;

namespace {

bool parses(const std::string& text, Diagnostics& wrong) {
  return static_cast<bool>(json::Document(text, "config.json", wrong));
}

std::string refused(const std::string& text) {
  Diagnostics wrong;
  CHECK(!parses(text, wrong));
  return wrong.text();
}

/// What `read` says about {"x": VALUE}.
template <typename T, typename... Limits>
std::string said_of(const std::string& value, T& to, Limits... limits) {
  Diagnostics wrong;
  json::Document document("{\"x\": " + value + "}", "config.json", wrong);
  REQUIRE(static_cast<bool>(document));
  document.root()["x"].read(to, limits...);
  return wrong.text();
}

std::string many(const std::string& text, int times) {
  std::string all;
  for (int i = 0; i < times; ++i) all += text;
  return all;
}

}  // namespace

TEST_CASE("a syntax error is placed by line and column") {
  CHECK(refused("{\n  \"a\": [1, 2,]\n}") ==
        "config.json:2:14: Invalid value.");
  CHECK(refused("") == "config.json:1:1: The document is empty.");
  CHECK(refused(std::string("{}\0{", 4)) == "config.json:1:3: holds a zero byte");  // a reader in C would stop there
  CHECK(refused("\xef\xbb\xbf{]") == "config.json:1:2: Missing a name for object member.");
  CHECK(refused("{} {}").rfind("config.json:1:4: ", 0) == 0);
  CHECK(refused("{\"a\": nul}").rfind("config.json:1:10: ", 0) == 0);
  CHECK(refused("[1e999]").find("Number too big") != std::string::npos);
  CHECK(refused(many("9", 100'000)).size() < 400);
}

TEST_CASE("a text that stops within a character is refused, and nothing beyond it is looked at (ASan sees to that)") {
  for (std::string_view lead : {"\xc3", "\xe2", "\xe2\x82", "\xf4", "\xf0\x9f", "\xf0\x9f\x98"}) {
    CAPTURE(lead.size());
    for (std::size_t length = 0; length < 40; ++length) {
      Diagnostics wrong;
      oci::json::Document document("\"" + std::string(length, 'a') + std::string(lead), "a.json", wrong);
      CHECK_FALSE(wrong.empty());
    }
  }
}

TEST_CASE("bytes that are not UTF-8 are an error, and are not repeated in it") {
  std::string text = refused("\"\x80\xff\x1b[31m\"");
  CHECK(text.find("Invalid encoding") != std::string::npos);
  CHECK(text.find('\x80') == std::string::npos);
  CHECK(text.find('\x1b') == std::string::npos);
}

TEST_CASE("64 levels are read, and 65 are not") {
  Diagnostics wrong;
  CHECK(parses(many("[", 64) + many("]", 64), wrong));
  CHECK(refused(many("[", 65) + many("]", 65)) == "config.json: is nested deeper than 64 levels");
}

TEST_CASE("a nest of brackets is refused at once") {
  auto start = std::chrono::steady_clock::now();
  CHECK(refused(many("[", 200'000)) == "config.json: is nested deeper than 64 levels");
  CHECK(refused(many("{\"a\":", 100'000)) == "config.json: is nested deeper than 64 levels");
  CHECK(std::chrono::steady_clock::now() - start < std::chrono::seconds(2));
}

TEST_CASE("a text of more than a mebibyte is not parsed") {
  CHECK(refused(std::string(json::kLargestText + 1, ' ')) == "config.json: is larger than 1048576 bytes");
}

TEST_CASE("a key that is there twice is refused, and named") {
  CHECK(refused(R"({"a": 1, "b": {"c": 1, "d": 2, "c": 3}})") == "config.json: b: the key 'c' is there twice");
  CHECK(refused(R"({"a": 1, "\u0061": 2})") == "config.json: the key 'a' is there twice");
  std::string object = "{";
  for (int i = 0; i < 100; ++i) object += "\"k" + std::to_string(i) + "\": 0, ";
  CHECK(refused(object + "\"k7\": 1}") == "config.json: the key 'k7' is there twice");
}

TEST_CASE("an object of 100000 keys is checked for repetition in reasonable time") {
  std::string object = "{\"k\": 0";
  for (int i = 0; i < 70'000; ++i) object += ",\"k" + std::to_string(i) + "\":0";
  Diagnostics wrong;
  auto start = std::chrono::steady_clock::now();
  CHECK(parses(object + "}", wrong));
  CHECK(std::chrono::steady_clock::now() - start < std::chrono::seconds(5));  // pairwise it would be many
}

TEST_CASE("a value of the wrong kind says what it must be and what it is") {
  std::string text;
  CHECK(said_of("5", text) == "config.json: x: must be text, not a number");
  CHECK(said_of("[]", text) == "config.json: x: must be text, not a list");
  bool flag = false;
  CHECK(said_of("\"true\"", flag) == "config.json: x: must be true or false, not text");
  std::vector<std::string> list;
  CHECK(said_of("[\"a\", 1, null]", list) ==
        "config.json: x[1]: must be text, not a number\nconfig.json: x[2]: must be text, not null");
  CHECK(list.empty());
}

TEST_CASE("a number must fit its field") {
  std::uint32_t small = 7;
  CHECK(said_of("4294967295", small).empty());
  CHECK(small == 4294967295u);
  CHECK(said_of("4294967296", small) == "config.json: x: must be a number from 0 to 4294967295, not 4294967296");
  CHECK(said_of("-1", small) == "config.json: x: must be a number from 0 to 4294967295, not -1");
  CHECK(said_of("1.0", small) == "config.json: x: must be a whole number, and within 64 bits");
  CHECK(said_of("18446744073709551616", small) == "config.json: x: must be a whole number, and within 64 bits");
  CHECK(said_of("true", small) == "config.json: x: must be a whole number, not a bool");
  CHECK(small == 4294967295u);

  std::int64_t large = 0;
  CHECK(said_of("-9223372036854775808", large).empty());
  CHECK(large == std::numeric_limits<std::int64_t>::min());
  CHECK(said_of("9223372036854775808", large) ==
        "config.json: x: must be a number from -9223372036854775808 to 9223372036854775807, not 9223372036854775808");
  std::uint64_t unlimited = 0;
  CHECK(said_of("18446744073709551615", unlimited).empty());
  CHECK(unlimited == ~0ull);
  std::optional<int> score;
  CHECK(said_of("1001", score, -1000, 1000) == "config.json: x: must be a number from -1000 to 1000, not 1001");
  CHECK(!score);
}

TEST_CASE("null is missing") {
  std::optional<std::uint32_t> number;
  CHECK(said_of("null", number).empty());
  CHECK(!number);
}

TEST_CASE("a text may not hold a NUL, where the kernel would stop reading") {
  std::string text = "before";
  CHECK(said_of("\"/safe\\u0000/../etc\"", text) == "config.json: x: must not contain a NUL character");
  CHECK(text == "before");
  std::map<std::string, std::string> map;
  CHECK(said_of("{\"a\\u0000b\": \"c\"}", map) ==
        "config.json: x['a\\x00b']: must not have a NUL character in its name");
}

TEST_CASE("a name shows the way to a value") {
  Diagnostics wrong;
  json::Document document(R"({"a": [{"b c": {"d": 1}}]})", "config.json", wrong);
  CHECK(document.root()["a"].name() == "a");
  for (json::Value each : document.root()["a"].values()) {
    CHECK(each["b c"]["d"].name() == "a[0]['b c'].d");
    CHECK(each["missing"].name() == "a[0].missing");
  }
  CHECK(document.root()["nowhere"]["below"].name() == "below");
}

TEST_CASE("a hundred mistakes are listed, and then it is said that there are more") {
  std::string list = "[1";
  for (int i = 0; i < 100'000; ++i) list += ",1";
  Diagnostics wrong;
  json::Document document(list + "]", "x", wrong);
  std::vector<std::string> texts;
  CHECK(!document.root().read(texts));
  REQUIRE(wrong.entries().size() == 101);
  CHECK(wrong.entries().back() == "x: has more mistakes; the rest is not listed");
}

TEST_CASE("text of others is shown in quotes, without control characters, and cut between characters") {
  CHECK(json::in_quotes("a\n\x1b[0m\x7f") == "'a\\x0a\\x1b[0m\\x7f'");
  CHECK(json::in_quotes("äß") == "'äß'");
  CHECK(json::in_quotes("a\u009b1m") == "'a\\xc2\\x9b1m'");     // the escape of a terminal in one character
  CHECK(json::in_quotes("a\u202eb") == "'a\\xe2\\x80\\xaeb'");  // from right to left
  std::string cut = json::in_quotes("x" + many("ä", 200));
  CHECK(cut == "'x" + many("ä", 99) + "...'");
}
