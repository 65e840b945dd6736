#include "runner/files/tar.h"

#include <doctest/doctest.h>

#include <cstring>

#include "runner/files/tree.h"

using namespace runner::files;
using Kind = TarEntry::Kind;

namespace {

struct Tar {
  std::string bytes;
  TarWriter writer{[this](std::string_view more) { bytes += more; }};
  void add(const TarEntry& entry, const std::string& content = {}) {
    writer.begin(entry);
    writer.data(content);
    writer.end();
  }
};

TarReader reader_of(const std::string& bytes, std::size_t step = 1000) {
  return TarReader([&bytes, step, at = std::size_t{0}](char* to, std::size_t size) mutable {
    std::size_t count = std::min({size, step, bytes.size() - at});
    std::memcpy(to, bytes.data() + at, count);
    at += count;
    return count;
  });
}

std::string content(TarReader& reader) {
  std::string text;
  char bytes[77];
  for (std::size_t got; (got = reader.data(bytes, sizeof bytes)) > 0;) text.append(bytes, got);
  return text;
}

void read_all(const std::string& bytes) {
  TarReader reader = reader_of(bytes);
  while (reader.next()) content(reader);
}

void set_checksum(std::string& bytes) {
  std::memset(bytes.data() + 148, ' ', 8);
  unsigned sum = 0;
  for (int i = 0; i < 512; ++i) sum += static_cast<unsigned char>(bytes[static_cast<std::size_t>(i)]);
  std::snprintf(bytes.data() + 148, 8, "%06o", sum);
}

}  // namespace

TEST_SUITE("tar") {
  TEST_CASE("what is written is read again: long names, links, newlines, large ids and times with nanoseconds") {
    std::string deep;
    for (int i = 0; i < 200; ++i) deep += "directory/";
    std::vector<TarEntry> entries = {
        {.kind = Kind::Directory,
         .name = "a/",
         .mode = 01755,
         .uid = 1000,
         .gid = 1000,
         .mtime = 1700000000,
         .mtime_ns = 123456789},
        {.kind = Kind::File,
         .name = "a/two\nlines\t=",
         .mode = 0640,
         .uid = 4000000000,
         .gid = 2097152,
         .size = 5,
         .mtime = 1},
        {.kind = Kind::File, .name = deep + "file", .size = 512, .mtime = -3, .mtime_ns = 500000000},
        {.kind = Kind::File, .name = "old", .size = 0, .mtime = -1, .mtime_ns = 250000000},
        {.kind = Kind::Symlink, .name = "link", .link = std::string(300, 'x')},
        {.kind = Kind::HardLink, .name = std::string(100, 'n'), .link = "a/b"},
        {.kind = Kind::File, .name = std::string(101, 'n'), .size = 1},
    };
    Tar tar;
    for (const TarEntry& e : entries) tar.add(e, std::string(e.size, 'c'));
    tar.writer.finish();
    CHECK(tar.bytes.size() % 512 == 0);
    for (std::size_t step : {1, 511, 100000}) {
      TarReader reader = reader_of(tar.bytes, step);
      for (const TarEntry& e : entries) {
        auto got = reader.next();
        REQUIRE(got);
        CHECK(*got == e);
        if (e.size > 1) CHECK(content(reader).size() == e.size);  // the last one is passed over
      }
      CHECK(!reader.next());
    }
  }

  TEST_CASE("a stream that is cut short is told from one that is damaged") {
    Tar tar;
    tar.add({.name = "f", .size = 700}, std::string(700, 'x'));
    tar.writer.finish();
    for (std::size_t length : {0, 100, 512, 600, 1300, 1536})
      CHECK_THROWS_AS(read_all(tar.bytes.substr(0, length)), TarCutShort);
    std::string flipped = tar.bytes;
    flipped[0] = 'g';
    CHECK_THROWS_WITH(read_all(flipped), "this is no tar stream, or it is damaged (a checksum is wrong)");
    CHECK_THROWS_AS(read_all(std::string(2048, 'z')), TarError);
  }

  TEST_CASE("numbers, records, types and names that may not be there end the reading") {
    Tar tar;
    tar.add({.name = "f"});
    tar.writer.finish();
    auto with = [&](std::size_t at, const std::string& text) {
      std::string bytes = tar.bytes;
      bytes.replace(at, text.size(), text);
      set_checksum(bytes);
      read_all(bytes);
    };
    CHECK_NOTHROW(with(0, "g"));
    CHECK_THROWS_AS(with(124, "zzz"), TarError);  // size
    CHECK_THROWS_AS(with(124, "-1"), TarError);
    CHECK_THROWS_AS(with(124, "\xff\xff\xff\xff"), TarError);  // negative, in base 256
    CHECK_THROWS_AS(with(156, "S"), TarError);
    CHECK_THROWS_AS(with(156, "M"), TarError);
    Tar huge;
    huge.add({.name = std::string(5000, 'a')});
    huge.writer.finish();
    CHECK_THROWS_AS(read_all(huge.bytes), TarError);
    Tar nul;
    nul.add({.name = std::string(150, 'a') + std::string(1, '\0') + "b"});
    nul.writer.finish();
    CHECK_THROWS_AS(read_all(nul.bytes), TarError);
  }

  TEST_CASE("names that lead out of the destination are refused") {
    for (const char* name : {"/etc/passwd", "../x", "a/../../x", "a/..", "..", ""})
      CHECK_THROWS_AS(components_of(name), TarError);
    CHECK_THROWS_AS(components_of(std::string(256, 'a')), TarError);
    CHECK(components_of("./a//b/./c/") == std::vector<std::string>{"a", "b", "c"});
    CHECK(components_of("..a/b..").size() == 2);
    CHECK(components_of("./").empty());
  }
}
