// The stream of events: its bytes, and what a hostile workload can print into it. Logs: log_test.cc.
#include <doctest/doctest.h>
#include <fmt/format.h>
#include <nettle/base64.h>

#include <memory>
#include <nlohmann/json.hpp>

#include "runner/events/mask.h"
#include "runner/events/verify.h"
#include "runner/events/writer.h"
#include "tests/unit/events_support.h"

using namespace runner::events;
using namespace tests;
using Json = nlohmann::ordered_json;

namespace {

struct Memory : Sink {
  explicit Memory(std::string& text) : text(text) {}
  void line(const Line& line) override { text += line.text; }
  std::string& text;
};

struct Broken : Sink {
  void line(const Line&) override { throw std::runtime_error("the reader is gone"); }
};

/// A stream into memory.
struct Recording {
  explicit Recording(Sources sources = fixed_sources()) : writer(kSource, {}, std::move(sources)) {
    writer.add(std::make_unique<Memory>(text));
  }
  Recording(const Recording&) = delete;

  std::vector<Json> events() const {
    std::vector<Json> events;
    for (const std::string& line : lines_of(text)) events.push_back(Json::parse(line));
    return events;
  }
  std::vector<std::string> data() const {
    std::vector<std::string> data;
    for (const Json& event : events()) data.push_back(event.at("type").get<std::string>() + event.at("data").dump());
    return data;
  }

  std::string text;
  Writer writer;
};

/// The events of one workload stream that arrives in these chunks.
struct Output : Recording {
  explicit Output(const std::vector<std::string>& chunks) {
    StdioSplitter out(writer, Stream::Stdout);
    for (const std::string& chunk : chunks) out.bytes(chunk);
    out.finish();
  }
};

std::string from_base64(const std::string& text) {
  base64_decode_ctx context;
  base64_decode_init(&context);
  std::string bytes(BASE64_DECODE_LENGTH(text.size()), '\0');
  std::size_t size = bytes.size();
  CHECK(base64_decode_update(&context, &size, reinterpret_cast<std::uint8_t*>(bytes.data()), text.size(), text.data()));
  CHECK(base64_decode_final(&context));
  bytes.resize(size);
  return bytes;
}

/// What a reader of the events takes the stream to have been. Checks that offsets leave no gap.
std::string joined(const Recording& recording) {
  std::string bytes;
  for (const Json& event : recording.events()) {
    const Json& data = event.at("data");
    CHECK(event.at("type") == "stdio");
    CHECK(data.at("offset") == bytes.size());
    bytes += data.contains("text") ? data.at("text").get<std::string>() : from_base64(data.at("base64"));
  }
  return bytes;
}

}  // namespace

TEST_CASE("the envelope is exactly this") {
  Recording recording;
  recording.writer.write(SandboxReady{.pid = 4711, .ms = 12});
  recording.writer.write(ProcessExited{.pid = 2, .exit = 3, .signal = {}});
  CHECK(recording.text ==
    R"({"specversion":"1.0","id":"01M7W6C3BVSTVWXYZ012345678","source":"runner/session/s-7f3a","type":"sandbox.ready",)"
    R"("time":"2026-11-20T10:00:00.123456Z","sequence":"00000000000001",)"
    R"("traceparent":"00-2122232425262728292a2b2c2d2e2f30-3132333435363738-01",)"
    R"("prev":"8c77c77b0b8841087fbbdbc2704760b2cbbb23e45d6b0e52ddc7adbb0837d01c","data":{"pid":4711,"ms":12}})" "\n"
    R"({"specversion":"1.0","id":"01M7W6C3BVSTVWXYZ012345679","source":"runner/session/s-7f3a","type":"process.exited",)"
    R"("time":"2026-11-20T10:00:00.123456Z","sequence":"00000000000002",)"
    R"("traceparent":"00-2122232425262728292a2b2c2d2e2f30-3132333435363738-01",)"
    R"("prev":"f92260b3561b553d5c917022ea7cfb975df991d7b2dea3acbc9dd1fb3657c28b","data":{"pid":2,"exit":3}})" "\n");
}

TEST_CASE("every type of event has its data under these names") {
  Recording recording;
  Writer& writer = recording.writer;
  writer.write(SessionStarted{"s-7f3a", "default", {"sh", "-c", "id"}, "host", "agent", {{"wall", "30m"}, {"pids", "9"}}, "0.1.0", "6.1"});
  writer.write(ProcessStarted{2, {"a\xff\xe2\x80\xae"}});  // not UTF-8: repaired, not refused
  writer.write(LimitMissing{"disk", "no project quota"});
  writer.write(LimitReached{Limit::Memory, 2147483648, {"/sys/fs/cgroup/r/memory.events", 1}});
  writer.write(PolicyDenied{"syscall", "ptrace"});
  writer.write(SessionEnded{Result::OomKill, {}, 9, "memory", 812, 90000, 2147483648, Evidence{"memory.events", 1}, {}});
  writer.write(SessionEnded{Result::RunnerError, {}, {}, "set-up", 0, 0, 0, {}, Failure{"mounts", 1, "/proc", "mount proc", "use a VM"}});
  CHECK(recording.data() == std::vector<std::string>{
    R"(session.started{"session":"s-7f3a","policy":"default","argv":["sh","-c","id"],"rootfs":"host","user":"agent",)"
    R"("limits":{"pids":"9","wall":"30m"},"runner":"0.1.0","kernel":"6.1"})",
    "process.started{\"pid\":2,\"argv\":[\"a\xef\xbf\xbd\xe2\x80\xae\"]}",
    R"(limit.missing{"limit":"disk","reason":"no project quota"})",
    R"(limit.reached{"limit":"memory","value":2147483648,"evidence":{"source":"/sys/fs/cgroup/r/memory.events","counter":1}})",
    R"(policy.denied{"what":"syscall","detail":"ptrace"})",
    R"(session.ended{"result":"oom-kill","signal":9,"reason":"memory","ms":812,"cpu_us":90000,"memory_peak":2147483648,)"
    R"("evidence":{"source":"memory.events","counter":1}})",
    R"(session.ended{"result":"runner-error","reason":"set-up","ms":0,"cpu_us":0,"memory_peak":0,)"
    R"("error":{"stage":"mounts","errno":1,"path":"/proc","cause":"mount proc","hint":"use a VM"}})",
  });
}

TEST_CASE("the result words are these twelve") {
  std::string words;
  for (int i = 0; i <= static_cast<int>(Result::RunnerError); ++i) words += std::string(word(static_cast<Result>(i))) + " ";
  CHECK(words == "success exit-code signal timeout oom-kill pids-limit disk-quota policy-violation max-steps budget cancelled runner-error ");
}

TEST_CASE("sequences begin at one and leave no gap, whoever writes") {
  Recording recording(real_sources());
  StdioSplitter out(recording.writer, Stream::Stdout), err(recording.writer, Stream::Stderr);
  for (int i = 0; i < 100; ++i) {
    out.bytes("out");
    recording.writer.write(LimitMissing{"cpu", "no controller"});
    err.bytes("\xff");
  }
  err.finish();
  int expected = 0;
  for (const Json& event : recording.events()) CHECK(event.at("sequence") == fmt::format("{:014}", ++expected));
  CHECK(expected == 300);
}

TEST_CASE("ids are ULIDs that only grow, also within a millisecond and when the clock is set back") {
  std::int64_t now = kTen;
  Recording recording({[&] { return now; }, [](std::size_t count) { return std::string(count, '\x1f'); }});  // all Z: one more carries
  for (std::int64_t step : {0, 0, 1, 999, 5'000'000, -60'000'000, 0, 1, 120'000'000}) {
    now += step;
    recording.writer.write(PolicyDenied{"what", "detail"});
  }
  std::string last;
  for (const Json& event : recording.events()) {
    std::string id = event.at("id");
    CHECK(id.size() == 26);
    CHECK(id.find_first_not_of("0123456789ABCDEFGHJKMNPQRSTVWXYZ") == std::string::npos);
    CHECK(id > last);
    last = id;
  }
}

TEST_CASE("a valid TRACEPARENT is the parent, with a span of our own; an invalid one is ignored") {
  auto traceparent = [](const std::string& parent) { return Writer(kSource, parent, fixed_sources()).traceparent(); };
  const std::string trace = "0af7651916cd43dd8448eb211c80319c", span = "b7ad6b7169203331", zeros(32, '0');
  CHECK(traceparent("00-" + trace + "-" + span + "-01") == "00-" + trace + "-2122232425262728-01");
  CHECK(traceparent("00-" + trace + "-" + span + "-00") == "00-" + trace + "-2122232425262728-00");
  CHECK(traceparent("cc-" + trace + "-" + span + "-01-later") == "00-" + trace + "-2122232425262728-01");
  for (const std::string& invalid : {std::string(), "00-0AF7651916CD43DD8448EB211C80319C-" + span + "-01", "00-" + zeros + "-" + span + "-01",
                                     "00-" + trace + "-0000000000000000-01", "ff-" + trace + "-" + span + "-01",
                                     "00-" + trace + "-" + span + "-01-more", "00-" + trace + "-" + span + "-0\""})
    CHECK(traceparent(invalid) == "00-2122232425262728292a2b2c2d2e2f30-3132333435363738-01");
}

TEST_CASE("output that looks like an event stays a string") {
  const std::string forged = "{\"specversion\":\"1.0\",\"type\":\"session.ended\",\"data\":{\"result\":\"success\"}}\n\"}}\n\\\"}}\r\n";
  Output output({forged});
  CHECK(output.events().size() == 1);
  CHECK(joined(output) == forged);
}

TEST_CASE("control characters, DEL, C1 and bidi marks come escaped, and lines are ASCII") {
  const std::string hostile = "\x1b]0;title\x07 \x7f \xc2\x9b \xe2\x80\xae \xf0\x9f\x98\x80 \xef\xbb\xbf\xe2\x80\xa8 gr\xc3\xbc\xc3\x9f";
  Output output({hostile});
  CHECK(joined(output) == hostile);
  CHECK(output.text.find(R"("text":"\u001b]0;title\u0007 \u007f \u009b \u202e \ud83d\ude00 \ufeff\u2028 gr\u00fc\u00df")") != std::string::npos);
  for (char c : output.text) CHECK(((c >= 0x20 && c < 0x7f) || c == '\n'));
}

TEST_CASE("bytes that are not UTF-8, or hold a NUL, come as base64; every character but NUL as text") {
  for (const std::string& bytes : std::vector<std::string>{"\xff", "ab\xc3(", std::string("a\0b", 3), "\xc0\x80", "\xe0\x80\x80", "\xed\xa0\x80",
                                                           "\xf4\x90\x80\x80", "\xf8\x88\x80\x80\x80", "\x80"}) {
    Output output({bytes});
    CHECK(joined(output) == bytes);
    CHECK(output.text.find("base64") != std::string::npos);
  }
  std::string all;
  for (std::uint32_t code = 1; code <= 0x10ffff; ++code) {
    auto part = [&](std::uint32_t lead, int shift) { return static_cast<char>(lead | (code >> shift & (lead == 0x80 ? 0x3f : 0xff))); };
    if (code < 0x80) all += part(0, 0);
    else if (code < 0x800) all += {part(0xc0, 6), part(0x80, 0)};
    else if (code < 0xd800 || (code > 0xdfff && code < 0x10000)) all += {part(0xe0, 12), part(0x80, 6), part(0x80, 0)};
    else if (code >= 0x10000) all += {part(0xf0, 18), part(0x80, 12), part(0x80, 6), part(0x80, 0)};
  }
  Output output({all});
  CHECK((joined(output) == all));
  CHECK(output.text.find("base64") == std::string::npos);
}

TEST_CASE("a character that is cut by the end of a chunk is joined with the next") {
  const std::string whole = "a\xc3\xbc\xe2\x82\xac\xf0\x9f\x98\x80z";
  for (std::size_t first = 0; first <= whole.size(); ++first) {
    for (std::size_t second = first; second <= whole.size(); ++second) {
      Output output({whole.substr(0, first), whole.substr(first, second - first), whole.substr(second)});
      CHECK(joined(output) == whole);
      CHECK(output.text.find("base64") == std::string::npos);
    }
  }
  CHECK(joined(Output({"a\xf0\x9f", "\x98"})) == "a\xf0\x9f\x98");  // never completed
}

TEST_CASE("every stream of bytes, however it is cut, round-trips exactly") {
  std::uint32_t state = 1;
  auto next = [&](std::size_t below) { return (state = state * 1664525 + 1013904223) / 65536 % below; };
  const std::vector<std::string> pieces{"plain text \n", "\xe2\x82\xac", "\xf0\x9f\x98\x80", "\xff", std::string(1, '\0'), "\"\\", "\xe2", "\x80",
                                        "\x1b[0m", std::string(3000, '\n'), std::string(5000, 'x')};
  for (int round = 0; round < 300; ++round) {
    std::string whole;
    for (std::size_t i = next(30); i > 0; --i) whole += pieces[next(pieces.size())];
    std::vector<std::string> chunks;
    for (std::size_t at = 0, most = round % 2 ? 100 : 20000; at < whole.size(); at += chunks.back().size())
      chunks.push_back(whole.substr(at, 1 + next(most)));
    CHECK((joined(Output(chunks)) == whole));
  }
}

TEST_CASE("what a limit dropped is told with the next event, and offsets count it") {
  Recording recording;
  StdioSplitter out(recording.writer, Stream::Terminal);
  out.bytes("abc\xc3");
  out.drop(1000);
  out.bytes("d");
  out.drop(7);
  out.finish();
  CHECK(recording.data() == std::vector<std::string>{
    R"(stdio{"stream":"terminal","offset":0,"text":"abc"})",
    R"(stdio{"stream":"terminal","offset":3,"base64":"ww=="})",
    R"(stdio{"stream":"terminal","offset":1004,"dropped":1000,"text":"d"})",
    R"(stdio{"stream":"terminal","offset":1012,"dropped":7,"text":""})",
  });
}

TEST_CASE("a source that would need escaping is refused") {
  CHECK_THROWS_AS(Writer("runner/\"x"), std::invalid_argument);
  CHECK_THROWS_AS(Writer(""), std::invalid_argument);
}

TEST_CASE("a sink that fails is left out, its error is thrown, and the others get every line") {
  LogFolder folder;
  std::string text;
  Writer writer = Writer::create(folder.log, kSource);
  writer.add(std::make_unique<Broken>());
  writer.add(std::make_unique<Memory>(text));
  CHECK_THROWS_WITH(writer.write(PolicyDenied{"a", "b"}), "the reader is gone");
  writer.write(PolicyDenied{"c", "d"});
  CHECK(text == read(folder.log));
  CHECK(verify_log(folder.log).lines == 2);
}

TEST_CASE("under the mask two runs are the same, and a different result is not") {
  auto run = [](int exit, int pid) {
    Recording recording(real_sources());
    recording.writer.write(SandboxReady{.pid = pid, .ms = static_cast<std::uint64_t>(pid)});
    recording.writer.write(Stdio{.bytes = "\"ms\":17 \xe2\x82\xac"});
    recording.writer.write(SessionEnded{Result::ExitCode, exit, {}, "", static_cast<std::uint64_t>(pid), 1, 0, {}, {}});
    return recording.text;
  };
  CHECK(run(1, 100) != run(1, 200));
  CHECK(mask_stream(run(1, 100)) == mask_stream(run(1, 200)));
  CHECK(mask_stream(run(1, 100)) != mask_stream(run(2, 100)));
  const std::string zeros(32, '\0');
  std::vector<std::string> masked = lines_of(mask_stream(run(1, 100)));
  CHECK(masked[0] == R"({"specversion":"1.0","id":"","source":"runner/session/s-7f3a","type":"sandbox.ready","time":"",)"
                     R"("sequence":"00000000000001","traceparent":"","prev":")" + hmac(zeros, kSource) + R"(","data":{"pid":0,"ms":0}})");
  CHECK(envelope_field(masked[1], "prev") == hmac(zeros, masked[0]));
  CHECK(Json::parse(masked[1]).at("data").at("text") == "\"ms\":17 \xe2\x82\xac");
}
