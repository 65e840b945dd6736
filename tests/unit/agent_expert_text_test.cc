// Expert files that are no text, no TOML, or made to do harm, and where such a file is looked for.
#include <doctest/doctest.h>
#include <stdlib.h>

#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "runner/agent/expert.h"

using namespace runner;
using namespace runner::agent;

namespace fs = std::filesystem;

namespace {

const std::string kSchema = "schema = 1\n";

std::vector<std::string> complaints(const std::string& text) {
  Diagnostics wrong;
  auto file = read_experts("e.toml", text, wrong);
  CHECK(file.has_value() == wrong.empty());
  return wrong.entries();
}

std::string first(const std::vector<std::string>& all) {
  CHECK_MESSAGE(all.size() <= 1, all.back());
  return all.empty() ? "" : all.front();
}

}  // namespace

TEST_CASE("what is not TOML is said with its place") {
  CHECK(first(complaints("schema 1\n")).starts_with("e.toml:1:8: this is not TOML: "));
  CHECK(first(complaints("schema = 1\nschema = 1\n")) ==
        "e.toml:2:10: this is not TOML: Error while parsing key-value pair: cannot redefine existing integer 'schema'");
  CHECK(first(complaints("schema = 1\n[.]\nschema = 2\n")) ==
        "e.toml:2:1: this is not TOML: a key or a value cannot be made out in this line");
  CHECK(first(complaints("schema = 1\n[experts.a]\n[experts.a]\n")).starts_with("e.toml:3:1: this is not TOML: "));
}

TEST_CASE("what is not text is said with its place") {
  CHECK(first(complaints(std::string("schema = 1\nä\0", 14))) == "e.toml:2:2: a NUL byte");
  CHECK(first(complaints("schema = 1\n# \xff\n")) == "e.toml:2:3: this byte is not UTF-8");
  CHECK(first(complaints("schema = 1\n# \xe2\x80\xae\n")) == "e.toml:2:3: the invisible control character U+202E");
  CHECK(first(complaints("model = \"a\\u0000\"\n")) == "e.toml:1:9: an escape in this text stands for a NUL byte");
  CHECK(first(complaints(std::string((1 << 20) + 1, '\n'))) == "e.toml: larger than 1048576 bytes");
  CHECK(complaints("\xef\xbb\xbfschema = 1\r\n[experts.a]\r\ninstruction = 'x'\r\n").empty());
}

TEST_CASE("a file made to exhaust the stack is refused") {
  std::string dots = "a";
  for (int i = 0; i < 200'000; ++i) dots += ".a";
  CHECK(first(complaints(kSchema + dots + " = 1\n")) == "e.toml:2:1: a key with more than 32 dots");
  CHECK(first(complaints(kSchema + "[" + dots + "]\n")) == "e.toml:2:1: a key with more than 32 dots");
  CHECK(first(complaints(kSchema + "a = " + std::string(100'000, '['))).starts_with("e.toml:2:"));
  // Dots of a text are no such dots, wherever it seems to end.
  std::string prose(100, '.');
  CHECK(first(complaints(kSchema + "[experts.lead]\ninstruction = 'x'\ndescription = \"\"\"\n\\\"\"\" " + prose +
                         "\"\"\"\"\"\nversion = '" + prose + "' # " + prose + "\n")) == "");
}

TEST_CASE("a file of too many experts is refused") {
  std::string text = kSchema;
  for (int i = 0; i < 257; ++i) text += fmt::format("[experts.e{}]\ninstruction = 'x'\n", i);
  CHECK(first(complaints(text)) == "e.toml:2:2: more than 256 experts");
}

// ---- where it lies -------------------------------------------------------------------------------------------------

TEST_CASE("an expert file is looked for in the directory and its parents") {
  std::string root = (fs::temp_directory_path() / "expert-test-XXXXXX").string();
  REQUIRE(::mkdtemp(root.data()));
  fs::create_directories(root + "/a/b/c");
  CHECK(find_expert_file(root + "/a/b/c").value_or("").find(root) == std::string::npos);
  std::ofstream(root + "/a/perstack.toml") << "x";
  CHECK(find_expert_file(root + "/a/b/c") == root + "/a/perstack.toml");
  CHECK(find_expert_file(root + "/a/") == root + "/a/perstack.toml");
  std::ofstream(root + "/a/experts.toml") << "x";
  CHECK(find_expert_file(root + "/a/b/../b") == root + "/a/experts.toml");
  fs::create_directories(root + "/a/b/experts.toml");  // a folder is none
  std::ofstream(root + "/a/b/perstack.toml") << "x";
  CHECK(find_expert_file(root + "/a/b/c") == root + "/a/b/perstack.toml");
  fs::remove_all(root);
}
