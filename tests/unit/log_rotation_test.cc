// A log of several files: what stays, what can be proved of it, what a writer that was killed leaves, and who reads it meanwhile.
#include <doctest/doctest.h>
#include <fmt/format.h>
#include <signal.h>
#include <sys/inotify.h>
#include <sys/wait.h>
#include <poll.h>
#include <unistd.h>

#include <functional>

#include "runner/events/reader.h"
#include "runner/events/segments.h"
#include "runner/events/verify.h"
#include "runner/events/writer.h"
#include "tests/unit/events_support.h"

using namespace runner::events;
using namespace tests;
namespace fs = std::filesystem;

namespace {

constexpr LogLimits kSmall{1500, 3};  // some five lines a file

Writer writer_of(const std::string& log, LogLimits limits = kSmall) { return Writer::create(log, kSource, {}, fixed_sources(), limits); }

void write(Writer& writer, int lines) {
  while (lines-- > 0) writer.write(PolicyDenied{"what", "detail"});
}

std::vector<std::uint64_t> sequences(const std::string& text) {
  std::vector<std::uint64_t> all;
  for (const std::string& line : lines_of(text)) all.push_back(parse_sequence(envelope_field(line, "sequence")).value_or(0));
  return all;
}

std::vector<std::uint64_t> from_to(std::uint64_t first, std::uint64_t last) {
  std::vector<std::uint64_t> all;
  for (; first <= last; ++first) all.push_back(first);
  return all;
}

std::string read_all(LogReader& reader) {
  std::string text;
  reader.read([&](std::string_view lines) { text += lines; });
  return text;
}

/// A log that has lost files already, with three left.
struct Rotated : LogFolder {
  std::uint64_t oldest = 0, last = 40;
  explicit Rotated(LogLimits limits = kSmall) {
    Writer writer = writer_of(log, limits);
    write(writer, static_cast<int>(last));
    oldest = list_segments(log).front();
  }
};

}  // namespace

TEST_CASE("a log never has more files than allowed, nor larger ones, and verifies after every line") {
  LogFolder folder;
  Writer writer = writer_of(folder.log);
  for (std::uint64_t last = 1; last <= 60; ++last) {
    write(writer, 1);
    VerifyResult result = verify_log(folder.log);
    REQUIRE(result.why == "");
    CHECK(result.gone + result.lines == last);
    std::vector<std::uint64_t> segments = list_segments(folder.log);
    CHECK(segments.size() <= 2);
    for (std::uint64_t first : segments) CHECK(fs::file_size(segment_path(folder.log, first)) <= kSmall.file_bytes);
    CHECK(fs::file_size(folder.log) <= kSmall.file_bytes);
    CHECK(result.gone + 1 == (segments.empty() ? 1 : segments.front()));
  }
  CHECK(verify_log(folder.log).gone > 30);
}

TEST_CASE("a log without limit is one file; one of one file keeps only that; a line larger than a file has its own") {
  LogFolder whole, single, large;
  Writer endless = writer_of(whole.log, {});
  write(endless, 50);
  CHECK(list_segments(whole.log).empty());
  CHECK(!fs::exists(start_path(whole.log)));
  Writer one = writer_of(single.log, {1500, 1});
  write(one, 50);
  CHECK(list_segments(single.log).empty());
  CHECK(verify_log(single.log).ok);
  CHECK(verify_log(single.log).gone > 30);
  Writer wide = writer_of(large.log);
  for (int i = 0; i < 6; ++i) wide.write(Stdio{.bytes = std::string(5000, 'x')});
  CHECK(list_segments(large.log) == std::vector<std::uint64_t>{4, 5});
  CHECK(verify_log(large.log).why == "");
}

TEST_CASE("what was rotated away is no cut, and every cut is found: at the beginning, between files, at the end") {
  auto why = [](const std::function<void(const Rotated&)>& change) {
    Rotated folder;
    REQUIRE(verify_log(folder.log).ok);
    change(folder);
    return verify_log(folder.log).why;
  };
  auto segment = [](const Rotated& f, std::size_t i) { return segment_path(f.log, list_segments(f.log).at(i)); };
  CHECK(why([&](const Rotated& f) { fs::remove(segment(f, 0)); }).find("lines before it were removed") != std::string::npos);
  CHECK(why([&](const Rotated& f) { fs::remove(segment(f, 1)); }).find("lines before it were removed") != std::string::npos);
  CHECK(why([&](const Rotated& f) { fs::remove(f.log); }).find("lines were cut off at the end") != std::string::npos);
  CHECK(why([&](const Rotated& f) { fs::remove(start_path(f.log)); }).find("line 1 has sequence") == 0);
  CHECK(why([&](const Rotated& f) { fs::resize_file(segment(f, 0), fs::file_size(segment(f, 0)) - 1); }).find("cut off at the end") != std::string::npos);
  CHECK(why([&](const Rotated& f) { fs::rename(segment(f, 1), segment_path(f.log, f.last + 1)); }) != "");
  CHECK(why([&](const Rotated& f) { fs::rename(segment(f, 1), segment_path(f.log, list_segments(f.log)[1] + 1)); }).find("a file was renamed") != std::string::npos);
  // All that the log itself gives away: the prev of the second file, which is the HMAC of the last line of the first.
  CHECK(why([&](const Rotated& f) {
          std::uint64_t first = list_segments(f.log)[1];
          std::string mac(envelope_field(lines_of(read(segment(f, 1))).front(), "prev"));
          std::string old = read(start_path(f.log));
          put(start_path(f.log), fmt::format("{:014} {} {}", first - 1, mac, old.substr(80)));
          fs::remove(segment(f, 0));
        }).find("the start") == 0);
  CHECK(why([&](const Rotated& f) {
          std::string text = read(segment(f, 0));
          put(segment(f, 0), text.replace(text.find("detail"), 6, "DETAIL"));
        }).find("was changed") != std::string::npos);
}

TEST_CASE("an older start is not taken for the present one") {
  LogFolder folder;
  Writer writer = writer_of(folder.log);
  write(writer, 25);
  std::string old = read(start_path(folder.log));
  write(writer, 25);
  CHECK(read(start_path(folder.log)) != old);
  put(start_path(folder.log), old);
  CHECK(verify_log(folder.log).why.find("lines before it were removed") != std::string::npos);
}

TEST_CASE("what a writer that is killed in the middle of a rotation leaves verifies, and goes on") {
  auto goes_on = [](const Rotated& folder, std::uint64_t gone) {
    VerifyResult before = verify_log(folder.log);
    REQUIRE(before.why == "");
    CHECK(before.gone == gone);
    LogReader reader(folder.log);
    CHECK(sequences(read_all(reader)) == from_to(gone + 1, folder.last));
    Writer writer = Writer::resume(folder.log, kSource, {}, fixed_sources(), kSmall);
    CHECK(writer.sequence() == folder.last);
    write(writer, 12);
    CHECK(verify_log(folder.log).why == "");
    CHECK(list_segments(folder.log).size() == 2);
  };
  {
    Rotated renamed;  // and no new file made
    fs::rename(renamed.log, segment_path(renamed.log, verify_log(renamed.log).full.back().last + 1));
    goes_on(renamed, renamed.oldest - 1);
  }
  {
    Rotated kept;  // the record says that it goes, and it is there still
    std::string first = segment_path(kept.log, kept.oldest), copy = read(first);
    std::uint64_t next = list_segments(kept.log)[1];
    Segment oldest = verify_log(kept.log).full.front();
    put(start_path(kept.log), start_of(read(key_path(kept.log)), oldest.last, oldest.mac));
    CHECK(fs::exists(first));
    goes_on(kept, next - 1);
    CHECK(!fs::exists(first));
  }
  {
    Rotated aside;  // the record was half written
    put(start_path(aside.log) + ".new", "0000000000");
    goes_on(aside, aside.oldest - 1);
  }
}

TEST_CASE("a writer that is killed at any moment leaves no line that lies") {
  for (int round = 0; round < 40; ++round) {
    LogFolder folder;
    Writer writer = writer_of(folder.log, {700, 3});
    pid_t child = ::fork();
    if (child == 0) {
      write(writer, 1'000'000);
      ::_exit(0);
    }
    while (gone_before(folder.log) == 0) ::usleep(100);
    ::usleep(static_cast<useconds_t>(round * 37));
    ::kill(child, SIGKILL);
    ::waitpid(child, nullptr, 0);
    VerifyResult result = verify_log(folder.log);
    // The one thing that a kill may leave, in a log of one file too: a line whose head was not written any more.
    bool uncovered = result.why.find("is not covered by the head") != std::string::npos;
    CHECK_MESSAGE((result.ok || uncovered), result.why);
  }
}

TEST_CASE("a log verifies while it is written and rotated") {
  LogFolder folder;
  Writer writer = writer_of(folder.log, {20'000, 4});
  pid_t child = ::fork();
  if (child == 0) {
    write(writer, 20'000);
    ::_exit(0);
  }
  int times = 0;
  for (; ::waitpid(child, nullptr, WNOHANG) == 0; ++times) CHECK(verify_log(folder.log).why == "");
  CHECK(times > 3);
  VerifyResult result = verify_log(folder.log);
  CHECK(result.gone + result.lines == 20'000);
}

TEST_CASE("a reader begins where it is told, over all files") {
  Rotated folder;
  auto begins = [&](auto skip) {
    LogReader reader(folder.log);
    skip(reader);
    return sequences(read_all(reader));
  };
  CHECK(begins([](LogReader&) {}) == from_to(folder.oldest, folder.last));
  for (std::uint64_t n = 0; n <= folder.last + 1; ++n) {
    CAPTURE(n);
    std::uint64_t since = std::max(n + 1, folder.oldest), tail = n > folder.last - folder.oldest ? folder.oldest : folder.last - n + 1;
    CHECK(begins([&](LogReader& r) { r.skip_to_behind(n); }) == from_to(since, folder.last));
    CHECK(begins([&](LogReader& r) { r.skip_to_last(n); }) == from_to(tail, folder.last));
    CHECK(begins([&](LogReader& r) { r.skip_to_behind(n), r.skip_to_last(3); }) == from_to(std::max(since, folder.last - 2), folder.last));
    CHECK(begins([&](LogReader& r) { r.skip_to_last(3), r.skip_to_behind(n); }) == from_to(std::max(since, folder.last - 2), folder.last));
  }
}

TEST_CASE("a reader follows over rotations without loss or doubling, and counts what went before it came") {
  LogFolder folder;
  Writer writer = writer_of(folder.log);
  LogReader reader(folder.log), late(folder.log);
  std::string seen;
  for (int i = 0; i < 200; ++i) {
    write(writer, i % 7);
    seen += read_all(reader);
  }
  CHECK(sequences(seen) == from_to(1, writer.sequence()));
  CHECK(reader.lost() == 0);
  write(writer, 1);
  CHECK(sequences(read_all(reader)) == std::vector<std::uint64_t>{writer.sequence()});
  // It has held the first file since the beginning; those behind it had come and gone when it looked.
  std::vector<std::uint64_t> read = sequences(read_all(late));
  CHECK(read.front() == 1);
  CHECK(read.back() == writer.sequence());
  CHECK(late.lost() > 500);
  CHECK(late.lost() + read.size() == writer.sequence());
}

TEST_CASE("a reader that waits is woken by every line, also the first of a new file") {
  LogFolder folder;
  constexpr int kLines = 3000;
  Writer writer = writer_of(folder.log, {3000, 50});
  pid_t child = ::fork();
  if (child == 0) {
    for (int i = 0; i < kLines; ++i) {
      write(writer, 1);
      if (i % 10 == 0) ::usleep(200);
    }
    ::_exit(0);
  }
  LogReader reader(folder.log);
  Descriptor changes(::inotify_init1(IN_CLOEXEC | IN_NONBLOCK));
  std::string seen;
  for (bool woken = true; woken && sequences(seen).size() < kLines;) {
    reader.watch(changes.get());
    seen += read_all(reader);
    if (lines_of(seen).size() == kLines) break;
    pollfd wait{changes.get(), POLLIN, 0};
    woken = ::poll(&wait, 1, 3000) == 1;
    char events[4096];
    while (::read(changes.get(), events, sizeof events) > 0) {
    }
  }
  ::waitpid(child, nullptr, 0);
  CHECK(reader.lost() == 0);
  CHECK((sequences(seen) == from_to(1, kLines)));
}
