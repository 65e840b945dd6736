// What a snapshot says of itself, and what is read of it: no more than was signed.
#include "runner/snapshot/manifest.h"

#include <doctest/doctest.h>
#include <fcntl.h>
#include <unistd.h>

#include "runner/snapshot/digest.h"
#include "runner/snapshot/index.h"
#include "tests/unit/events_support.h"

using namespace runner;
using namespace runner::snapshot;

namespace {

const std::string kKey(32, 'k');
const std::string kDigest(64, 'a');

Manifest sample() {
  Manifest m;
  m.id = std::string(32, '1');
  m.name = "base";
  m.created = "2026-11-21T10:00:00.000000Z";
  m.counter = 7;
  m.session_id = "s1";
  m.lineage = {std::string(32, '2')};
  m.left_running = true;
  m.kernel = "6.18.0", m.machine = "x86_64", m.cpu = "avx fpu";
  m.criu_version = "4.2", m.runner_version = "0.1.0";
  m.policy_name = "default", m.policy_hash = kDigest;
  m.config = {"--name", "s1", "-e", "X=\xff\xfe", "--", "sh", "-c", "echo \"\n\\\xe2\x82\xac\""};
  m.session = R"({"ring": [1, 2.5, null], "session": {"session": "}"}, "text": "a\"b"})";
  m.first_id = 0x70000000, m.id_count = 65536;
  m.mapped = {{"/bin/sh", 123, "abcdef", ""}, {"/lib/\xf0", 5, "", kDigest}};
  m.layers = {"0", "base0/0"};
  m.files = {{"criu/core-1.img", 10, kDigest}, {"criu/pages-1.img", 4096, kDigest}, {"layers/0.index", 99, kDigest}};
  return m;
}

std::string why_not(const std::string& body) {
  Diagnostics wrong;
  auto read = read_body(body, "m", wrong);
  CHECK(read.has_value() == wrong.empty());
  return wrong.text();
}

std::string with(const std::string& what, const std::string& instead) {
  std::string body = body_of(sample());
  std::size_t at = body.find(what);
  REQUIRE(at != std::string::npos);
  return body.replace(at, what.size(), instead);
}

}  // namespace

TEST_SUITE("manifest") {
  TEST_CASE("what is written is read again: arguments that are no UTF-8, and the supervisor's object to the byte") {
    Diagnostics wrong;
    auto read = read_body(body_of(sample()), "m", wrong);
    CHECK(wrong.text() == "");
    REQUIRE(read);
    CHECK(*read == sample());
    CHECK(read->session == sample().session);
  }

  TEST_CASE("each mistake is said by its name") {
    CHECK(why_not(with("\"counter\":7", "\"counter\":-7")).find("m: counter: must be a number") == 0);
    CHECK(why_not(with("\"counter\":7,", "")) == "m: counter: is missing");
    CHECK(why_not(with("\"counter\":7", "\"counter\":7,\"more\":1")) == "m: more: is not known in this version");
    CHECK(why_not(with("\"counter\":7", "\"counter\":7,\"counter\":8")) == "m: the key 'counter' is there twice");
    CHECK(why_not(with("\"kernel\":", "\"kernal\":")).find("m: host.kernal: is not known in this version") !=
          std::string::npos);
    CHECK(why_not(with("\"counter\":7", "\"counter\":null")) == "m: counter: is missing");
    CHECK(why_not(with("\"version\":1", "\"version\":2")) ==
          "m: version: is 2, and this runner knows up to 1: use a newer runner");
    CHECK(why_not(with("\"base0/0\"", "\"../0\"")) == "m: layers[1]: is neither a layer nor SNAPSHOT/LAYER");
    CHECK(why_not(with("\"layers\":[\"0\"", "\"layers\":[\"1\"")) ==
          "m: layers: names '1', whose index is not among the files");
    CHECK(why_not(with("pages-1.img", "aages-1.img")).find("must be sorted by path") != std::string::npos);
    CHECK(why_not(with("\"build_id\":\"abcdef\"", "\"build_id\":\"abcdef\",\"sha256\":\"" + kDigest + "\"")) ==
          "m: mapped[0]: must have either a build_id or a sha256");
    CHECK(why_not(with("\"hex\":\"", "\"hex\":\"0")) == "m: config[3]: must be pairs of hex digits");
    CHECK(why_not(with(",\"session\":{", ",\"session\":[],\"x\":{")).find("session: must be an object") !=
          std::string::npos);
    CHECK(why_not(with("\"session\":{", "\"sess\\u0069on\":{")).find("without escapes") != std::string::npos);
    for (const char* text : {"", "{}", "[]", "1", "{\"version\":1}", "{\"version\":\"1\"}"}) CHECK(why_not(text) != "");
    std::string body = body_of(sample());
    for (std::size_t length = 0; length < body.size(); length += 7) CHECK(why_not(body.substr(0, length)) != "");
  }

  TEST_CASE("files have plain names in three folders") {
    for (const char* good :
         {"criu/core-1.img", "criu/pages-1.img", "files/shm.tar", "layers/0.index", "layers/work-2.index"})
      CHECK(is_file_path(good));
    for (const char* bad :
         {"", "criu", "criu/", "/etc/passwd", "../x", "criu/../x", "criu/..", "criu/.x", "criu/a/b", "layers/0",
          "layers/.index", "layers/a/b.index", "other/x", "manifest.json", "criu/a b", "criu/a\nb"})
      CHECK_MESSAGE(!is_file_path(bad), bad);
    CHECK(is_pages("criu/pages-12.img"));
    CHECK(!is_pages("criu/pagemap-12.img"));
    CHECK(!is_pages("files/pages-12.img"));
  }

  TEST_CASE("what a reader would refuse is not written") {
    auto refused = [](auto change) {
      Manifest m = sample();
      change(m);
      CHECK_THROWS_AS(body_of(m), std::runtime_error);
    };
    refused([](Manifest& m) { m.config.push_back(std::string(2 << 20, 'x')); });
    refused([](Manifest& m) { m.session = "{\"a\":1,\"a\":2}"; });
    refused([](Manifest& m) { m.session = "[]"; });
    refused([](Manifest& m) { m.session = "{},\"counter\":9"; });
    refused([](Manifest& m) { m.session = ""; });
    refused([](Manifest& m) { m.policy_name = "\xff"; });
    refused([](Manifest& m) { m.name = "../x"; });
    refused([](Manifest& m) { m.config = {std::string("a\0b", 3)}; });
  }

  TEST_CASE("a flipped bit anywhere, and another key, do not verify") {
    std::string text = sign(body_of(sample()), kKey);
    auto good = [&](const std::string& changed, const std::string& key = kKey) {
      auto parts = split(changed);
      return parts && verifies(*parts, key);
    };
    CHECK(good(text));
    CHECK(!good(text, std::string(32, 'K')));
    for (std::size_t i = 0; i < text.size(); ++i) {
      std::string changed = text;
      changed[i] = static_cast<char>(changed[i] ^ (1 << (i % 8)));
      if (good(changed)) FAIL("byte ", i);
    }
    for (std::size_t length = 0; length < text.size(); ++length)
      if (good(text.substr(0, length))) FAIL("length ", length);
  }

  TEST_CASE("the CPU's features are compared as words") {
    CHECK(cpu_difference("a b c", "c b a") == "");
    CHECK(cpu_difference("avx sse", "amx sse") == "-avx +amx");
    CHECK(cpu_difference(cpu_features(), cpu_features()) == "");
    CHECK(cpu_features().size() > 10);
  }

  TEST_CASE("an ELF file is known by its build id, another by its digest") {
    int self = ::open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
    Mapped mapped = describe_mapped(self, "/x");
    CHECK(mapped.build_id.size() == 40);
    CHECK(mapped.sha256 == "");
    ::close(self);
    tests::LogFolder folder;
    tests::put(folder.log, "#!/bin/sh\n");
    int script = ::open(folder.log.c_str(), O_RDONLY | O_CLOEXEC);
    CHECK(describe_mapped(script, "/y") == Mapped{"/y", 10, "", sha256("#!/bin/sh\n")});
    ::close(script);
    CHECK(sha256("abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  }

  TEST_CASE("an index of somebody else's names nothing outside of its layer") {
    const std::string top = "d 755 0 0 1.000000000 .\n", etc = top + "d 755 0 0 1.000000000 etc\n";
    auto read = [](const std::string& text) { return read_index(text); };
    CHECK(read(etc + "f 644 1 2 -3.000000004 etc/a%20b 3 " + kDigest +
               "\nx user.a 00ff\nh etc/c etc/a%20b\nl 777 0 0 1.000000000 l ../../x\nw gone\n")
              .size() == 6);
    for (std::string line : {"d 755 0 0 1.000000000 ../x",
                             "d 755 0 0 1.000000000 /x",
                             "d 755 0 0 1.000000000 etc/..",
                             "d 755 0 0 1.000000000 etc//x",
                             "d 755 0 0 1.000000000 .",
                             "d 755 0 0 1.000000000 etc",
                             "d 755 0 0 1.000000000 other/x",
                             "w etc/%2E%2E",
                             "w %2Fetc",
                             "w a%00",
                             "w a%0",
                             "w a%",
                             "w ",
                             "w",
                             "w a b",
                             "h x y",
                             "h x etc",
                             "c 644 0 0 1.000000000 x",
                             "f 644 0 0 1.000000000 x",
                             "f 644 65536 0 1.000000000 x 0 ",
                             "f 10000 0 0 1.000000000 x 0",
                             "f 644 0 0 1 x 0",
                             "x user.a 00f",
                             "x trusted.evil 00",
                             "x security.selinux 00",
                             ""}) {
      CAPTURE(line);
      CHECK_THROWS(read(etc + line + "\n"));
    }
    CHECK_THROWS(read(""));
    CHECK_THROWS(read("w x\n"));
    CHECK_THROWS(read(top + "w x"));
    CHECK_THROWS(read(top + "l 777 0 0 1.000000000 l /etc\nw l/x\n"));
    CHECK_THROWS(read(top + "x user.b 00\nx user.a 00\n"));
  }

  TEST_CASE("the difference of two indexes is named") {
    const std::string top = "d 755 0 0 1.000000000 .\n", f = "f 644 0 0 1.000000000 f 3 " + kDigest + "\n",
                      x = "x user.a 00\n";
    auto told = [](const std::string& was, const std::string& is) {
      Difference found = difference(was, is);
      return found.path + ": " + found.why;
    };
    CHECK(told(top + f, top + f) == ": ");
    CHECK(told(top + f, top) == "f: it is missing");
    CHECK(told(top, top + f) == "f: it was added");
    CHECK(told(top + f, top + f + x) == "f: its attributes were changed");
    CHECK(told(top + f, top + "w f\n") == "f: it was replaced by something of another kind");
    CHECK(told(top + f, top + "f 644 0 0 1.000000000 f 3 " + std::string(64, 'b') + "\n") ==
          "f: its contents were changed");
    CHECK(told(top + f, top + "f 600 0 0 1.000000000 f 3 " + kDigest + "\n") == "f: its mode was changed");
    CHECK(told(top + "w a\n" + f, top + f) == "a: it is missing");
    CHECK(told(top + f, top + "w a\n" + f) == "a: it was added");
  }
}
