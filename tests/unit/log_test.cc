// A log on the disk: its chain, what was done to it, and how it goes on. Its files: log_rotation_test.cc.
#include <doctest/doctest.h>
#include <fmt/format.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>

#include "runner/events/verify.h"
#include "runner/events/writer.h"
#include "tests/unit/events_support.h"

using namespace runner::events;
using namespace tests;

namespace {

/// A log of ten lines.
void write_log(const std::string& log) {
  Writer writer = Writer::create(log, kSource, {}, fixed_sources());
  for (int pid = 1; pid <= 10; ++pid) writer.write(ProcessStarted{.pid = pid, .argv = {"true"}});
}

VerifyResult verify_changed(const std::string& log, const std::vector<std::string>& lines) {
  put(log, fmt::format("{}\n", fmt::join(lines, "\n")));
  return verify_log(log);
}

void set_field(std::string& line, const std::string& name, const std::string& value) {
  std::string_view old = envelope_field(line, name);
  line.replace(static_cast<std::size_t>(old.data() - line.data()), old.size(), value);
}

}  // namespace

TEST_CASE("prev is an HMAC over the line before, and over the source for the first") {
  LogFolder folder;
  write_log(folder.log);
  std::string key = read(key_path(folder.log)), before = kSource;
  for (const std::string& line : lines_of(read(folder.log))) {
    CHECK(envelope_field(line, "prev") == hmac(key, before));
    before = line;
  }
  // RFC 4231, test case 2
  CHECK(hmac("Jefe", "what do ya want for nothing?") == "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843");
}

TEST_CASE("a log that cannot grow ends with its last whole line, and its error is thrown") {
  LogFolder folder;
  Writer writer = Writer::create(folder.log, kSource);
  writer.write(PolicyDenied{"a", "b"});
  const std::string before = read(folder.log);
  rlimit old;
  REQUIRE(::getrlimit(RLIMIT_FSIZE, &old) == 0);
  rlimit small{before.size() + 100, old.rlim_max};
  auto handler = std::signal(SIGXFSZ, SIG_IGN);
  REQUIRE(::setrlimit(RLIMIT_FSIZE, &small) == 0);
  CHECK_THROWS_AS(writer.write(PolicyDenied{"c", "d"}), std::system_error);
  REQUIRE(::setrlimit(RLIMIT_FSIZE, &old) == 0);
  std::signal(SIGXFSZ, handler);
  CHECK(read(folder.log) == before);
  CHECK(verify_log(folder.log).ok);
}

TEST_CASE("a log, its key and its head are for the owner only, and none is overwritten") {
  LogFolder folder;
  write_log(folder.log);
  for (const std::string& path : {folder.log, key_path(folder.log), head_path(folder.log)}) {
    struct stat info;
    REQUIRE(::stat(path.c_str(), &info) == 0);
    CHECK((info.st_mode & 07777) == 0600);
    std::string before = read(path);
    CHECK_THROWS_AS(Writer::create(folder.log, kSource), std::system_error);
    CHECK(read(path) == before);
  }
  CHECK(read(key_path(folder.log)).size() == 32);
  CHECK(read(head_path(folder.log)).size() == 80);
  CHECK(read(head_path(folder.log)).starts_with("00000000000010 "));
}

TEST_CASE("an untouched log verifies after every line, and while it is written") {
  LogFolder folder;
  Writer writer = Writer::create(folder.log, kSource);
  for (std::uint64_t lines = 0; lines < 5; ++lines) {
    VerifyResult result = verify_log(folder.log);
    CHECK(result.ok);
    CHECK(result.lines == lines);
    CHECK(result.why == "");
    writer.write(Stdio{.bytes = "hello"});
  }
  pid_t child = ::fork();
  if (child == 0) {
    for (int i = 0; i < 3000; ++i) writer.write(Stdio{.bytes = "hello"});
    ::_exit(0);
  }
  while (::waitpid(child, nullptr, WNOHANG) == 0) CHECK(verify_log(folder.log).why == "");
  CHECK(verify_log(folder.log).lines == 3005);
}

TEST_CASE("a flipped bit is found wherever it is") {
  LogFolder folder;
  write_log(folder.log);
  const std::string good = read(folder.log);
  std::fstream file(folder.log, std::ios::in | std::ios::out | std::ios::binary);  // in place: a rewritten file is flushed to disk
  auto set = [&](std::size_t at, char byte) { file.seekp(static_cast<std::streamoff>(at)).put(byte).flush(); };
  for (std::size_t at = 0; at + 1 < good.size(); ++at) {
    set(at, static_cast<char>(good[at] ^ 1));
    CHECK_MESSAGE(!verify_log(folder.log).ok, "byte ", at);
    set(at, good[at]);
  }
  CHECK(verify_log(folder.log).ok);
  std::vector<std::string> lines = lines_of(good);
  lines[6].replace(lines[6].find("true"), 4, "evil");
  VerifyResult result = verify_changed(folder.log, lines);
  CHECK(result.bad_line == 7);
  CHECK(result.why == "line 7 was changed, or a line before it was removed, or the `prev` of line 8 was changed");

  lines = lines_of(good);
  lines[9].replace(lines[9].find("true"), 4, "evil");
  result = verify_changed(folder.log, lines);
  CHECK(result.bad_line == 10);
  CHECK(result.why == "line 10 was changed, or lines after it were cut off and the head was changed");
}

TEST_CASE("removed, repeated, swapped and inserted lines are found") {
  LogFolder folder;
  write_log(folder.log);
  const std::vector<std::string> good = lines_of(read(folder.log));
  auto check = [&](std::uint64_t bad_line, const std::string& why, auto change) {
    std::vector<std::string> lines = good;
    change(lines);
    VerifyResult result = verify_changed(folder.log, lines);
    CHECK(!result.ok);
    CHECK(result.bad_line == bad_line);
    CHECK(result.why == why);
  };
  check(5, "line 5 has sequence 6: lines before it were removed, or it was moved or changed", [](auto& l) { l.erase(l.begin() + 4); });
  check(1, "line 1 has sequence 2: lines before it were removed, or it was moved or changed", [](auto& l) { l.erase(l.begin()); });
  check(5, "line 5 has sequence 4: it was repeated, moved or changed, or a line before it was added",
        [](auto& l) { l.insert(l.begin() + 4, std::string(l[3])); });
  check(3, "line 3 has sequence 6: lines before it were removed, or it was moved or changed", [](auto& l) { std::swap(l[2], l[5]); });
  check(3, "line 3 is not an event", [](auto& l) { l.insert(l.begin() + 2, "hello"); });
  check(4, "line 4 was changed, or a line before it was removed, or the `prev` of line 5 was changed", [](auto& l) {
    l.erase(l.begin() + 4);  // by somebody who thinks of the numbers too
    for (std::size_t i = 4; i < l.size(); ++i) set_field(l[i], "sequence", fmt::format("{:014}", i + 1));
  });
}

TEST_CASE("a log that was cut off is found, also when the head was cut with it") {
  LogFolder folder;
  write_log(folder.log);
  const std::string text = read(folder.log);
  std::vector<std::string> lines = lines_of(text);
  std::string next_prev(envelope_field(lines[7], "prev"));
  lines.resize(7);
  VerifyResult result = verify_changed(folder.log, lines);
  CHECK(result.bad_line == 8);
  CHECK(result.why == "the log ends at 7 but its head says 10: lines were cut off at the end");

  put(head_path(folder.log), "00000000000007 " + next_prev + "\n");  // all that the log itself gives away
  CHECK(verify_log(folder.log).why == "line 7 was changed, or lines after it were cut off and the head was changed");
  put(folder.log, "");
  CHECK(!verify_log(folder.log).ok);
}

TEST_CASE("a log that ends within a line is found") {
  LogFolder folder;
  write_log(folder.log);
  const std::string text = read(folder.log);
  put(folder.log, text.substr(0, text.size() - 1));
  CHECK(verify_log(folder.log).why == "the log ends at 9 but its head says 10: lines were cut off at the end");
  put(folder.log, text + "{\"specversion\"");
  CHECK(verify_log(folder.log).bad_line == 11);
}

TEST_CASE("an added line is found, even with the right prev") {
  LogFolder folder;
  write_log(folder.log);
  std::vector<std::string> lines = lines_of(read(folder.log));
  lines.push_back(lines[9]);
  set_field(lines[10], "sequence", "00000000000011");
  set_field(lines[10], "prev", hmac(read(key_path(folder.log)), lines[9]));
  VerifyResult result = verify_changed(folder.log, lines);
  CHECK(result.bad_line == 11);
  CHECK(result.why == "line 11 is not covered by the head: the writer died while writing it, or it was added");
  CHECK_THROWS_AS(Writer::resume(folder.log, kSource), std::runtime_error);
}

TEST_CASE("the one line that its writer was killed at is cut off, and nothing else is") {
  LogFolder folder;
  write_log(folder.log);
  const std::string text = read(folder.log);
  CHECK(!cut_uncovered(folder.log));
  for (std::string more : {std::string("{\"specversion\""), text.substr(0, text.find('\n') + 1)}) {
    put(folder.log, text + more);
    CHECK(cut_uncovered(folder.log));
    CHECK(read(folder.log) == text);
    CHECK(verify_log(folder.log).ok);
  }
  for (std::string more : {text.substr(0, text.find('\n') + 1) + "{", text}) {
    put(folder.log, text + more);
    CHECK(!cut_uncovered(folder.log));
    CHECK(read(folder.log) == text + more);
  }
  put(folder.log, text.substr(0, text.size() - 1));
  CHECK(!cut_uncovered(folder.log));
}

TEST_CASE("a log with another log's key, or without key or head, says so") {
  LogFolder folder;
  write_log(folder.log);
  auto why = [&] { return verify_log(folder.log).why; };
  const std::string key = read(key_path(folder.log));
  put(key_path(folder.log), std::string(32, 'k'));
  CHECK(why() == "line 1 was changed, or a line before it was removed, or the key is not the key of this log");
  std::filesystem::remove(key_path(folder.log));
  CHECK(why() == "the key " + folder.log + ".key is missing: nothing can be verified without it");
  put(key_path(folder.log), key);
  CHECK(why() == "");
  put(head_path(folder.log), "");
  CHECK(why() == "the head " + folder.log + ".head was changed: it does not begin with a sequence");
  std::filesystem::remove(head_path(folder.log));
  CHECK(why() == "the head " + folder.log + ".head is missing: without it nobody can tell where the log ends");
  std::filesystem::remove(folder.log);
  CHECK(why() == "the log " + folder.log + " is missing");
}

TEST_CASE("a resumed log goes on with its sequence, its chain, its ids and its trace") {
  LogFolder folder;
  write_log(folder.log);
  Writer writer = Writer::resume(folder.log, kSource, {}, fixed_sources(kTen - 3600'000'000));  // the clock went back an hour
  CHECK(writer.sequence() == 10);
  writer.write(PolicyDenied{"a", "b"});
  CHECK(verify_log(folder.log).lines == 11);
  CHECK(verify_log(folder.log).ok);
  std::vector<std::string> lines = lines_of(read(folder.log));
  CHECK(envelope_field(lines[10], "id") > envelope_field(lines[9], "id"));
  CHECK(envelope_field(lines[10], "traceparent").substr(0, 35) == envelope_field(lines[9], "traceparent").substr(0, 35));
}

TEST_CASE("a log without lines can be resumed; a changed one cannot") {
  LogFolder folder;
  { Writer writer = Writer::create(folder.log, kSource); }
  Writer::resume(folder.log, kSource).write(PolicyDenied{"a", "b"});
  CHECK(verify_log(folder.log).lines == 1);
  std::string text = read(folder.log);
  text[text.size() - 4] = 'x';
  put(folder.log, text);
  CHECK_THROWS_WITH(Writer::resume(folder.log, kSource),
                    ("cannot continue the log " + folder.log + ": " + verify_log(folder.log).why).c_str());
}
