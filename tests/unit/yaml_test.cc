// YAML as policies and expert files may use it: what means two things is refused with its place; nothing takes long.
#include "runner/config/yaml.h"

#include <doctest/doctest.h>

#include <chrono>
#include <string>
#include <vector>

using namespace runner;

namespace {

using Lines = std::vector<std::string>;

Lines complaints(const std::string& text) {
  Diagnostics wrong;
  parse_yaml("a.yaml", text, wrong);
  return wrong.entries();
}

Node tree_of(const std::string& text) {
  Diagnostics wrong;
  auto node = parse_yaml("a.yaml", text, wrong);
  REQUIRE_MESSAGE((node && wrong.empty()), wrong.text());
  return *node;
}

std::string place(const Where& where) { return fmt::format("{}:{}", where.line, where.column); }

std::string repeated(const std::string& text, std::size_t bytes) {
  std::string result;
  while (result.size() < bytes) result += text;
  return result;
}

}  // namespace

TEST_CASE("a tree has the file's text, lists and mappings, each with its place") {
  Node root = tree_of("# c\na: text\nb:\n  - \"1\"\n  - {c: 1000:1000}\nd:\n");
  REQUIRE(root.kind() == Node::Kind::Mapping);
  CHECK(root.items().size() == 3);
  CHECK(root.find("a")->text() == "text");
  CHECK(place(root.find("a")->key_where()) == "2:1");
  CHECK(place(root.find("a")->where()) == "2:4");
  const Node& list = *root.find("b");
  REQUIRE(list.kind() == Node::Kind::List);
  CHECK(list.items()[0].text() == "1");
  CHECK(place(list.items()[0].where()) == "4:5");
  CHECK(list.items()[1].find("c")->text() == "1000:1000");
  CHECK(root.find("d")->kind() == Node::Kind::Nothing);
  CHECK(place(root.find("d")->where()) == "6:1");
  CHECK(root.find("e") == nullptr);
  CHECK(tree_of("").kind() == Node::Kind::Nothing);
}

TEST_CASE("a duplicate key is refused at its second place") {
  CHECK(complaints("a: 1\na: 2\n") == Lines{"a.yaml:2:1: key 'a' is given twice, first on line 1"});
  CHECK(complaints("x: {a: 1, \"a\": 2}") == Lines{"a.yaml:1:11: key 'a' is given twice, first on line 1"});
  CHECK(complaints("x: {a: 1}\ny: {a: 2}").empty());
}

TEST_CASE("anchors, aliases and tags are refused") {
  CHECK(complaints("h: &h box\nd: *h\n") == Lines{"a.yaml:1:4: anchors (&name) are not accepted; remove it",
                                                  "a.yaml:2:4: aliases (*name) are not accepted; write the value out"});
  CHECK(complaints("&a [*a]").size() == 2);
  for (const char* tagged : {"!!str x", "! x", "!t []", "!t {}", "!2", "!<tag:yaml.org,2002:str> x"})
    CHECK(complaints(tagged) == Lines{"a.yaml:1:1: tags (!name) are not accepted; remove it"});
  CHECK(complaints("!t a: 1") == Lines{"a.yaml:1:1: tags (!name) are not accepted; remove it"});
}

TEST_CASE("a text that only looks like a tag, an anchor or an alias is text") {
  CHECK(tree_of("\"!a &b *c\"").text() == "!a &b *c");
  CHECK(tree_of("a !b &c *d").text() == "a !b &c *d");
}

TEST_CASE("a file holds one document") {
  CHECK(complaints("---\na: 1\n...\n").empty());
  CHECK(complaints("a: 1\n---\nb: 2\n") ==
        Lines{"a.yaml:2:1: the document ended before this; a file holds one document"});
  CHECK(complaints("[a] b") == Lines{"a.yaml:1:5: the document ended before this; a file holds one document"});
  CHECK(complaints(", , ,") == Lines{"a.yaml:1:1: the document ended before this; a file holds one document"});
  CHECK(complaints("# c\n%YAML 1.2\n---\na: 1\n") ==
        Lines{"a.yaml:2:1: directives such as %YAML are not accepted; remove the line"});
}

TEST_CASE("keys are text") {
  CHECK(complaints("[a]: b") == Lines{"a.yaml:1:1: a key must be text, not a list"});
  CHECK(complaints("? {a: 1}\n: b\n") == Lines{"a.yaml:1:3: a key must be text, not a mapping"});
  CHECK(complaints("~: b") == Lines{"a.yaml:1:1: a key must be text, not nothing"});
}

TEST_CASE("a text that a reviewer sees otherwise than the parser is refused") {
  CHECK(complaints("a: 1\nb:\t2\n") == Lines{"a.yaml:2:3: a tab; indent and separate with blanks"});
  CHECK(complaints("\ta: 1\n\tb: 2\n").size() == 2);
  CHECK(complaints(std::string("a: \0", 4)) == Lines{"a.yaml:1:4: a NUL byte"});
  CHECK(complaints("a: b\n\x04 c: d\n") == Lines{"a.yaml:2:1: the invisible control character U+0004"});
  CHECK(complaints("a: 1\rb: 2\n") == Lines{"a.yaml:1:5: the invisible control character U+000D"});
  CHECK(complaints("a: \xe2\x80\xae") == Lines{"a.yaml:1:4: the invisible control character U+202E"});
  CHECK(complaints("a: \xe2\x80\xa8") == Lines{"a.yaml:1:4: the invisible control character U+2028"});
  CHECK(complaints("a: 1\r\nb: 2\r\n").empty());
  CHECK(complaints("\xef\xbb\xbf"
                   "a: ü€😀\n")
            .empty());
}

TEST_CASE("an escape cannot bring in what the file may not hold") {
  CHECK(complaints("a: \"x\\0\"") == Lines{"a.yaml:1:4: an escape in this text stands for a NUL byte"});
  CHECK(complaints("a: \"\\u202e\"") ==
        Lines{"a.yaml:1:4: an escape in this text stands for the invisible control character U+202E"});
  CHECK(complaints("a: \"\\e[2J\"").size() == 1);
  CHECK(complaints("a: \"\\r\"").size() == 1);
  CHECK(complaints("a: \"x\\ty\\n\"").empty());
}

TEST_CASE("what is not UTF-8 is refused where it begins") {
  for (const char* bad : {"\xff", "\x80", "\xc0\x80", "\xc3", "\xc3(", "\xe0\x80\x80", "\xed\xa0\x80",
                          "\xf0\x80\x80\x80", "\xf4\x90\x80\x80", "\xf8\x88\x80\x80\x80"})
    CHECK(complaints(std::string("a: ") + bad) == Lines{"a.yaml:1:4: this byte is not UTF-8"});
  CHECK(complaints(std::string("a\0:\0", 4)) == Lines{"a.yaml:1:2: a NUL byte"});  // UTF-16
}

TEST_CASE("a mistake in the grammar is reported with its place") {
  CHECK(complaints("a: [1,\n") == Lines{"a.yaml:2:1: this is not YAML: end of sequence flow not found"});
  CHECK(complaints("a: b: c\n") == Lines{"a.yaml:1:5: this is not YAML: illegal map value"});
}

TEST_CASE("a text in a message is on one line and short") {
  CHECK(quote("lots") == "'lots'");
  CHECK(quote("a\nb\xff") == "'a\\nb\\xff'");
  CHECK(quote("\x1b[2J") == "'\\x1b[2J'");
  CHECK(quote(std::string(5000, 'x')).size() < 80);
  CHECK(quote("\xe2\x80\xae") == "'\\xe2\\x80\\xae'");
  CHECK(quote("ü") == "'ü'");
}

TEST_CASE("lists and mappings may be 16 deep and no more") {
  CHECK(complaints(std::string(16, '[') + std::string(16, ']')).empty());
  CHECK(complaints(std::string(17, '[') + std::string(17, ']')) ==
        Lines{"a.yaml:1:17: lists and mappings are more than 16 deep here"});
  CHECK(complaints(repeated("- ", 100)) == Lines{"a.yaml:1:33: lists and mappings are more than 16 deep here"});
  CHECK(complaints(repeated("{a: ", 100)).size() == 1);
  CHECK(complaints(repeated("? ", 100)).size() == 1);
}

TEST_CASE("a file may have 64 KiB and no more") {
  CHECK(complaints("#" + std::string(65'535, 'x')).empty());
  CHECK(complaints("#" + std::string(65'536, 'x')) == Lines{"a.yaml: larger than 65536 bytes"});
}

TEST_CASE("200 KB of brackets, or of anything else, are refused at once") {
  using Clock = std::chrono::steady_clock;
  YamlLimits large;
  large.bytes = 1'000'000;  // so that what is fast is the parser, and not only its first check
  for (const char* piece : {"[", "{", "- ", "? ", "[\"]\",", "{a: ", "[a: ", "a:\n", "-\n", "*a ", "&a ", "!a ", "'",
                            "\"\\x41", ",", "|\n", "%", "# [\n", "a: 1\n"}) {
    std::string text = repeated(piece, 200'000);
    Diagnostics wrong;
    auto begin = Clock::now();
    parse_yaml("a.yaml", text, wrong);
    parse_yaml("a.yaml", text, wrong, large);
    auto time = std::chrono::duration_cast<std::chrono::milliseconds>(Clock::now() - begin);
    CHECK_MESSAGE(time.count() < 10'000, piece);  // 0.1 s, and 3 with sanitizers; libyaml takes 20 s for brackets without
    CHECK(wrong.first() == "a.yaml: larger than 65536 bytes");
  }
}
