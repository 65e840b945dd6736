// Snapshots from store to store: what is signed comes through whole, and what is not does no harm.
#include <doctest/doctest.h>
#include <unistd.h>

#include <cstring>

#include "runner/files/tar.h"
#include "runner/snapshot/digest.h"
#include "runner/snapshot/index.h"
#include "runner/snapshot/transfer.h"
#include "tests/kernel/snapshot_support.h"

using namespace tests;
using namespace runner::snapshot;
using nlohmann::json;
using runner::files::TarEntry;
using runner::files::TarWriter;

namespace {

std::string digest_of_text(const std::string& text) {
  Folder folder;
  folder.write("f", text);
  isolate::sys::Fd fd = isolate::sys::open_file(folder / "f", O_RDONLY);
  return describe_mapped(fd.get(), "f").sha256;
}

/// A stream as an attacker writes it, signed with a key that nobody here has.
struct Stream {
  std::string bytes;
  TarWriter writer{[this](std::string_view more) { bytes += more; }};

  Stream& add(TarEntry entry, const std::string& content = {}) {
    if (entry.kind == TarEntry::Kind::File) entry.size = content.size();
    writer.begin(entry);
    writer.data(content);
    writer.end();
    return *this;
  }
  Stream& add(const std::string& name, const std::string& content) { return add(TarEntry{.name = name}, content); }
  Stream& manifest(Manifest m) { return add("manifest.json", sign(body_of(m), std::string(32, '?'))); }
};

Manifest simple(const std::vector<std::pair<std::string, std::string>>& files) {
  Manifest m = sample_manifest();
  m.id = std::string(32, 'e');
  m.name = "evil";
  m.layers.clear();
  for (const auto& [path, text] : files) m.files.push_back({path, text.size(), digest_of_text(text)});
  return m;
}

std::string imported(TestStore& test, Stream& stream, bool trust = true, bool whole = true) {
  if (whole) stream.writer.finish();
  auto source = [&, at = std::size_t{0}](char* to, std::size_t size) mutable {
    std::size_t count = std::min(size, stream.bytes.size() - at);
    std::memcpy(to, stream.bytes.data() + at, count);
    at += count;
    return count;
  };
  return thrown([&] { (void)import_snapshot(test.store, source, {.name = {}, .key = {}, .trust = trust}); });
}

}  // namespace

TEST_SUITE("snapshot store") {
  TEST_CASE("export and import take a snapshot, with layers of others, to another store") {
    SKIP_UNLESS(is_root(), "root");
    TestStore here, there;
    publish(here.store, "base");
    Manifest child = sample_manifest();
    child.layers = {"0", "base/0"};
    publish(here.store, "child", child);
    Folder files;
    files.write("key", std::string(32, 'T'), 0600);
    CHECK(here.cli({"export", "child", "-o", files / "own.tar"}).code == 0);
    CHECK(here.cli({"export", "child", "--key", files / "key", "-o", files / "shared.tar"}).code == 0);
    struct stat info;
    REQUIRE(::stat((files / "own.tar").c_str(), &info) == 0);
    CHECK((info.st_mode & 0777) == 0600);

    Ran refused = there.cli({"import", "-i", files / "own.tar"});
    CHECK(refused.code == 125);
    CHECK(has(refused.err, "refused: the snapshot is not signed with this store's key"));
    CHECK(there.cli({"import", "-i", files / "shared.tar"}).code == 125);
    CHECK(has(there.cli({"ls"}).out + there.leftovers(), ""));
    CHECK(there.store.list().empty());
    CHECK(there.leftovers() == "");

    for (const Args& how : {Args{"import", "-i", files / "shared.tar", "--key", files / "key", "--name", "a"},
                            Args{"import", "-i", files / "own.tar", "--trust", "--name", "b"},
                            Args{"import", "-i", files / "own.tar", "--key", here.key(), "--name", "c"}}) {
      Ran ran = there.cli(how);
      CHECK_MESSAGE(ran.code == 0, ran.err);
      CHECK(ran.out == how.back() + "\n");
      Ran verified = there.cli({"verify", "--full", how.back()});
      CHECK_MESSAGE(verified.out == how.back() + ": good\n", verified.err);
    }
    // Through a pipe, and back into the store that it is from.
    CHECK(here.cli({"import", "--name", "back"}, {.input = here.cli({"export", "base"}).out}).out == "back\n");
    Snapshot a = there.store.get("a");
    CHECK(a.manifest().layers == std::vector<std::string>{"0", "p0"});
    CHECK(a.manifest().id == here.store.get("child").manifest().id);
    CHECK(a.manifest().session == R"({"terminal":true})");
    CHECK(a.read("layers/p0.index") == here.store.get("base").read("layers/0.index"));
    CHECK(has(there.cli({"import", "-i", files / "own.tar", "--trust", "--name", "a"}).err, "File exists"));
    CHECK(there.leftovers() == "");
  }

  TEST_CASE("a stream that was changed anywhere or cut is refused, and leaves nothing") {
    SKIP_UNLESS(is_root(), "root");
    TestStore test;
    publish(test.store, "base");
    std::string good = test.cli({"export", "base"}).out;
    test.store.remove("base");
    int refused = 0;
    for (std::size_t at = 0; at < good.size(); at += 97) {
      Stream stream;
      stream.bytes = good;
      stream.bytes[at] = static_cast<char>(stream.bytes[at] ^ 4);
      // Only padding may change: the rest of a block, and fields of a header that mean nothing here.
      if (imported(test, stream, true, false) == "")
        test.store.remove("base");
      else
        ++refused;
      if (test.leftovers() != "") FAIL("byte ", at, " leaves ", test.leftovers());
    }
    CHECK(refused > static_cast<int>(good.size() / 97 / 3));
    for (std::size_t length = 0; length + 1024 < good.size(); length += 509) {
      Stream stream;
      stream.bytes = good.substr(0, length);
      if (imported(test, stream, true, false) == "") FAIL("cut to ", length);
    }
    CHECK(test.store.list().empty());
    CHECK(test.leftovers() == "");
  }

  TEST_CASE("hostile streams write nothing outside, even when they are trusted") {
    SKIP_UNLESS(is_root(), "root");
    TestStore test;
    Folder outside;
    auto tried = [&](Stream& stream) {
      std::string why = imported(test, stream);
      CHECK(test.leftovers() == "");
      CHECK(test.store.list().empty());
      CHECK(isolate::sys::list_dir(outside.path()).empty());
      return why;
    };
    auto begin = [&](Stream& stream) -> Stream& {
      return stream.manifest(simple({{"criu/a.img", "aaa"}, {"criu/b.img", "b"}}));
    };
    for (const std::string& name : {std::string("../x"), outside / "x", std::string("criu/../../x"),
                                    std::string("criu"), std::string("criu/c.img"), std::string("criu/a.img/")}) {
      Stream stream;
      begin(stream).add(name, "aaa");
      CAPTURE(name);
      CHECK(has(tried(stream), "where criu/a.img should be"));
    }
    Stream link, twice, more, size, digest, less, hard, none, first;
    begin(link)
        .add({.kind = TarEntry::Kind::Symlink, .name = "criu/a.img", .link = outside.path()})
        .add("criu/a.img/x", "aaa");
    CHECK(has(tried(link), "something that is no file where criu/a.img should be"));
    begin(hard).add({.kind = TarEntry::Kind::HardLink, .name = "criu/a.img", .link = "/etc/passwd"});
    CHECK(has(tried(hard), "something that is no file"));
    begin(twice).add("criu/a.img", "aaa").add("criu/a.img", "aaa");
    CHECK(has(tried(twice), "refused: criu/a.img where criu/b.img should be"));
    begin(more).add("criu/a.img", "aaa").add("criu/b.img", "b").add("criu/c.img", "c");
    CHECK(has(tried(more), "refused: criu/c.img is in the stream, and the manifest does not name it"));
    begin(size).add("criu/a.img", "aaaa");
    CHECK(has(tried(size), "refused: criu/a.img: it has 4 bytes, not 3"));
    begin(digest).add("criu/a.img", "aab");
    CHECK(has(tried(digest), "refused: criu/a.img: its SHA-256 is not that of the manifest"));
    begin(less).add("criu/a.img", "aaa");
    CHECK(has(tried(less), "ends where criu/b.img should be"));
    CHECK(has(tried(none), "ends where manifest.json should be"));
    first.add("criu/a.img", "aaa");
    CHECK(has(tried(first), "where manifest.json should be"));

    Stream huge, large, announced;
    Manifest m = simple({});
    m.files = {{"criu/a.img", std::uint64_t{1} << 61, std::string(64, 'a')}};
    huge.manifest(m).writer.begin({.name = "criu/a.img", .size = std::uint64_t{1} << 61});
    CHECK(has(thrown([&] { huge.writer.finish(); }), ""));
    CHECK(has(imported(test, huge, true, false), "ends before its end mark"));
    large.add("manifest.json", std::string(2 << 20, ' '));
    CHECK(has(tried(large), "refused: manifest.json: it has 2097152 bytes, more than 1048832"));
    m.files = {{"layers/0.index", std::uint64_t{1} << 40, std::string(64, 'a')}};
    announced.manifest(m).writer.begin({.name = "layers/0.index", .size = std::uint64_t{1} << 40});
    announced.writer.finish();
    CHECK(
        has(imported(test, announced, true, false), "refused: layers/0.index: it has 1099511627776 bytes, more than"));
    CHECK(test.leftovers() == "");
  }

  TEST_CASE("hostile layers write nothing outside, even when they are trusted") {
    SKIP_UNLESS(is_root(), "root");
    TestStore test;
    Folder outside;
    const std::string top = "d 755 0 0 1.000000000 .\n";
    ContentHash of_x;
    of_x.add("x");
    const std::string x = of_x.hex();
    auto tried = [&](const std::string& index, const std::string& content = {}) {
      Stream stream;
      stream.manifest(simple({{"layers/0.index", index}})).add("layers/0.index", index);
      if (!content.empty()) stream.add("layers/0/2", content);
      std::string why = imported(test, stream);
      CHECK(test.leftovers() == "");
      CHECK(isolate::sys::list_dir(outside.path()).empty());
      return why;
    };
    CHECK(
        has(tried(top + "l 777 0 0 1.000000000 l " + outside.path() + "\nf 644 0 0 1.000000000 l/x 1 " + x + "\n", "x"),
            "is in no directory that came before it"));
    CHECK(has(tried(top + "d 755 0 0 1.000000000 ..\n"), "leads out of the layer"));
    CHECK(has(tried(top + "f 644 0 0 1.000000000 " + outside.path() + "/x 1 " + x + "\n"), "leads out of the layer"));
    CHECK(has(tried(top + "l 777 0 0 1.000000000 l x\nl 777 0 0 1.000000000 l y\n"), "is there twice"));
    CHECK(has(tried(top + "h passwd /etc/passwd\n"), "is a hard link to nothing before it"));
    CHECK(has(tried(top + "d 755 0 0 1.000000000 d\nf 644 0 0 1.000000000 d/x 1 " + x + "\n", "y"),
              "layers/0/2: its SHA-256"));
    CHECK(has(tried("x\n"), "refused: layer 0"));
    // What is taken is what copy_layer() would have made: not in another order.
    CHECK(has(tried(top + "d 755 0 0 1.000000000 d\nw a\n"), "layers/0.index is not as its manifest has it"));
    CHECK(tried(top + "w gone\nf 4755 7 8 1.000000009 x 1 " + x +
                    "\nx user.a 00ff\nd 700 5 6 1.000000000 d\nl 777 0 0 1.000000000 d/l /etc\n",
                "x") == "");
    Snapshot evil = test.store.get("evil");
    evil.verify(Verify::Full);
    struct stat info;
    REQUIRE(::lstat((evil.path() + "/layers/0/x").c_str(), &info) == 0);
    CHECK((info.st_mode & 07777) == 04755);
    CHECK(info.st_uid == 7);
  }

  TEST_CASE("the verbs list, show, verify, remove and prune, and say what is wrong") {
    SKIP_UNLESS(is_root(), "root");
    TestStore test;
    CHECK(test.cli({"ls"}).code == 0);
    Manifest automatic = sample_manifest();
    automatic.automatic = true;
    publish(test.store, "base");
    publish(test.store, "auto1", automatic);
    automatic.layers = {"0", "auto1/0"};
    publish(test.store, "auto2", automatic);
    Events lines = events_of(test.cli({"ls"}).out);
    REQUIRE(lines.size() == 3);
    CHECK(lines[0]["name"] == "auto1");
    CHECK(lines[0]["used_by"] == json{"snapshot auto2"});
    CHECK(lines[2]["status"] == "good");
    CHECK(lines[2]["bytes"] > 5000);
    CHECK(has(test.cli({"ls", "--format", "table"}).out, "NAME   STATUS  AGE"));
    CHECK(test.cli({"ls", "-q"}).out == "auto1\nauto2\nbase\n");
    json shown = json::parse(test.cli({"show", "base"}).out);
    CHECK(shown["manifest"]["session"] == json{{"terminal", true}});
    CHECK(shown["manifest"]["files"].size() == 6);
    CHECK(test.cli({"verify", "base"}).out == "base: good (memory pages by their size only: --full reads them)\n");
    {
      std::string file = test.path("auto1") + "/layers/0/file", before = read(file);
      isolate::sys::write_file(file, "CONTENT");
      CHECK(has(test.cli({"verify", "auto2"}).err,
                "snapshot auto1 cannot be used: layers/0/file: its contents were changed"));
      CHECK(test.cli({"verify", "base"}).code == 0);
    }
    Ran removed = test.cli({"rm", "auto1", "none"});
    CHECK(removed.code == 125);
    CHECK(has(removed.err, "snapshot auto1 is in use by snapshot auto2"));
    CHECK(has(removed.err, "there is no snapshot none"));
    CHECK(test.cli({"prune", "--dry-run"}).code == 0);
    CHECK(test.cli({"ls", "-q"}).out == "auto1\nauto2\nbase\n");
    CHECK(events_of(test.cli({"prune"}).out).size() == 2);
    CHECK(test.cli({"ls", "-q"}).out == "base\n");
    CHECK(test.cli({"rotate-key"}).out == "base\n");
    CHECK(test.cli({"verify", "--full", "base"}).out == "base: good\n");
    {
      isolate::sys::Fd file = isolate::sys::open_file(test.path("base") + "/criu/core-1.img", O_WRONLY | O_TRUNC);
    }
    Ran bad = test.cli({"verify", "base"});
    CHECK(bad.code == 125);
    CHECK(has(bad.err, "snapshot base cannot be used: criu/core-1.img: it was changed: it has 0 bytes, not 17"));
    CHECK(test.cli({"rm", "base"}).out == "base\n");
    for (const Args& wrong : {Args{}, Args{"what"}, Args{"show"}, Args{"show", "a", "b"}, Args{"rm"}, Args{"ls", "x"},
                              Args{"export", "none"}, Args{"verify", "../x"}})
      CHECK(test.cli(wrong).code == 125);
    CHECK(has(test.cli({"--help"}).out, "rotate-key"));
    CHECK(has(test.cli({"import", "--help"}).out, "--trust"));
  }
}
