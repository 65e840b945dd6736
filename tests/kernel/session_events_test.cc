// What a session tells: the events, their order, and the one word at the end.
#include <doctest/doctest.h>
#include <signal.h>

#include <set>

#include "tests/kernel/live.h"

using namespace tests;
using nlohmann::json;

namespace {

std::vector<std::string> types_of(const Events& events) {
  std::vector<std::string> types;
  for (const json& event : events)
    if (types.empty() || types.back() != "stdio" || event["type"] != "stdio") types.push_back(event["type"]);
  return types;
}

}  // namespace

TEST_SUITE("session events") {
  TEST_CASE("every event has the CloudEvents envelope, a gap-free sequence and one trace") {
    SKIP_UNLESS(is_root(), "root");
    Session s = session({}, {"/probe", "status,env"}, {.env = {{"TRACEPARENT", "00-0123456789abcdef0123456789abcdef-0123456789abcdef-01"}}});
    REQUIRE(s.events.size() >= 5);
    std::set<std::string> ids, links;
    std::uint64_t sequence = 0;
    for (const json& event : s.events) {
      CHECK(event["specversion"] == "1.0");
      CHECK(event["source"] == "runner/session/" + s.id);
      char expected[16];
      ::snprintf(expected, sizeof expected, "%014llu", static_cast<unsigned long long>(++sequence));
      CHECK(event["sequence"] == expected);
      CHECK(event["id"].get<std::string>().size() == 26);
      CHECK(event["prev"].get<std::string>().size() == 64);
      CHECK(event["time"].get<std::string>().size() == 27);
      CHECK(event["traceparent"].get<std::string>().substr(0, 36) == "00-0123456789abcdef0123456789abcdef-");
      CHECK(event["data"].is_object());
      ids.insert(event["id"]);
      links.insert(event["prev"]);
    }
    CHECK(ids.size() == s.events.size());
    CHECK(links.size() == s.events.size());
    CHECK(s.facts["TRACEPARENT"] == s.events[0]["traceparent"]);
  }

  TEST_CASE("the events come in the order in which things happened, and session.ended is once and last") {
    SKIP_UNLESS(is_root(), "root");
    Session s = session({}, {"/probe", "status"});
    CHECK(types_of(s.events) == std::vector<std::string>{"session.started", "sandbox.ready", "process.started", "stdio", "process.exited", "session.ended"});
    json started = s.events[0]["data"];
    CHECK(started["session"] == s.id);
    CHECK(started["policy"] == "default");
    CHECK(started["argv"] == json({"/probe", "status"}));
    CHECK(started["user"] == "1000:1000");
    CHECK(started["limits"]["memory"] == "2147483648");
    CHECK(find(s.events, "process.exited")->at("data")["exit"] == 0);
    CHECK(s.end["memory_peak"].is_number());
    CHECK(s.ran.err.find("success") != std::string::npos);  // a line for a person
  }

  TEST_CASE("the result is one word, with the program's status and runner's own") {
    SKIP_UNLESS(is_root(), "root");
    struct {
      Args flags, command;
      const char* result;
      int code;
    } cases[] = {
        {{}, {"/probe", "exit", "0"}, "success", 0},
        {{}, {"/probe", "exit", "3"}, "exit-code", 3},
        {{}, {"/probe", "exit", "137"}, "exit-code", 137},
        {{}, {"/probe", "kill-self", "11"}, "signal", 139},
        {{}, {"/probe", "kill-self", "9"}, "signal", 137},
        {{"--timeout", "300ms"}, {"/probe", "sleep", "60"}, "timeout", 124},
        {{"--timeout", "300ms"}, {"/probe", "ignore-term", "60"}, "timeout", 124},
        {{}, {"no-such-program"}, "runner-error", 127},
        {{}, {"/no/such/program"}, "runner-error", 127},
        {{}, {"/etc/passwd"}, "runner-error", 126},
        {{}, {"/usr"}, "runner-error", 126},
    };
    for (const auto& c : cases) {
      Session s = session(c.flags, c.command);
      CAPTURE(c.command.back());
      CHECK(s.result() == c.result);
      CHECK(s.ran.code == c.code);
      if (std::string(c.result) == "exit-code") CHECK(s.end["exit"] == c.code);
      if (std::string(c.result) == "signal") CHECK(s.end["signal"] == c.code - 128);
      CHECK(s.end["reason"].get<std::string>().size() > 3);
      CHECK(remains_of(s.id) == "");
    }
  }

  TEST_CASE("a set-up that failed is one object with stage, errno, cause and hint") {
    SKIP_UNLESS(is_root(), "root");
    json error = session({}, {"no-such-program"}).end["error"];
    CHECK(error["errno"] == ENOENT);
    CHECK(error["cause"].get<std::string>().find("exec: \"no-such-program\": executable file not found in $PATH") == 0);
    for (const char* key : {"stage", "path", "hint"}) CHECK(error.contains(key));
  }

  TEST_CASE("a timeout is told with its limit, and nothing of the program is left") {
    SKIP_UNLESS(is_root(), "root");
    Session s = session({"--timeout", "400ms"}, {"sh", "-c", "sleep 71.25 & sleep 71.5 & sleep 71.75"});
    CHECK(s.result() == "timeout");
    auto reached = find(s.events, "limit.reached");
    REQUIRE(reached);
    CHECK(reached->at("data")["limit"] == "wall");
    CHECK(reached->at("data")["value"] == 400);
    CHECK(processes_with("71.").empty());
  }

  TEST_CASE("what the program prints can never become an event, and arrives byte for byte") {
    SKIP_UNLESS(is_root(), "root");
    Session s = session({}, {"/probe", "forge-events"});
    CHECK(s.result() == "success");
    int ends = 0;
    for (const json& event : s.events) ends += event["type"] == "session.ended";
    CHECK(ends == 1);
    CHECK(!find(s.events, "policy.denied"));
    CHECK(!find(s.events, "limit.reached"));
    CHECK(s.out.find("{\"specversion\":\"1.0\",\"type\":\"session.ended\",\"sequence\":\"00000000000003\"") == 0);
    // No control character and no mark that turns text around stands bare in the stream.
    for (char c : s.ran.out) CHECK_FALSE((static_cast<unsigned char>(c) < ' ' && c != '\n'));
    CHECK(s.ran.out.find("\xe2\x80\xae") == std::string::npos);
    std::string bytes;
    bool encoded = false;
    for (const json& event : s.events)
      if (event["type"] == "stdio") encoded |= event["data"].contains("base64");
    CHECK(encoded);
  }

  TEST_CASE("output without an end of line is chunked with offsets that add up") {
    SKIP_UNLESS(is_root(), "root");
    Session s = session({}, {"/probe", "flood", "1000000"});
    std::uint64_t at = 0;
    for (const json& event : s.events) {
      if (event["type"] != "stdio") continue;
      CHECK(event["data"]["offset"] == at);
      at += event["data"]["text"].get<std::string>().size();
    }
    CHECK(at == 1000000);
  }

  TEST_CASE("output over the policy's limit is dropped and counted, and the limit is told once") {
    SKIP_UNLESS(is_root(), "root");
    Folder folder;
    folder.write("small.yaml", "version: 1\nextends: default\nlimits: {output: 1M}\n");
    Session s = session({"--policy", folder / "small.yaml"}, {"sh", "-c", "/probe flood 3000000; echo the end"});
    CHECK(s.result() == "success");
    std::uint64_t kept = 0, dropped = 0, told = 0;
    for (const json& event : s.events) {
      if (event["type"] == "limit.reached") told += event["data"]["limit"] == "output";
      if (event["type"] != "stdio") continue;
      dropped += event["data"].value("dropped", 0);
      kept += event["data"].value("text", "").size();
    }
    CHECK(kept == 1 << 20);
    CHECK(kept + dropped == 3000000 + 8);
    CHECK(told == 1);
    CHECK(s.ran.err.find("output limit") != std::string::npos);
  }

  TEST_CASE("a reader that stops holds the program back and loses nothing") {
    SKIP_UNLESS(is_root(), "root");
    std::string id = fresh_id();
    Args argv{"sh", "-c", "\"$@\" | (sleep 1; cat)", "sh"};
    Args whole = runner_argv(session_arguments(id, {"--rm"}, {"/probe", "flood", "4000000"}));
    argv.insert(argv.end(), whole.begin(), whole.end());
    Events events = events_of(run(argv).out);
    CHECK(ended(events)["result"] == "success");
    CHECK(stdio_text(events).size() == 4000000);
  }

  TEST_CASE("a reader that goes away does not end the session: its log has all") {
    SKIP_UNLESS(is_root(), "root");
    Box box;
    Args argv{"sh", "-c", "\"$@\" | head -1", "sh"};
    Args whole = runner_argv(session_arguments(box.id, {}, {"sh", "-c", "/probe flood 300000; exit 4"}));
    argv.insert(argv.end(), whole.begin(), whole.end());
    run(argv);
    Events events = events_of(read(data_dir() + "/sessions/" + box.id + "/events.ndjson"));
    CHECK(ended(events)["exit"] == 4);
    CHECK(runner({"logs", "--verify", box.id}).code == 0);
  }

  TEST_CASE("--events-fd gives the events elsewhere, and --output raw the program's bytes alone") {
    SKIP_UNLESS(is_root(), "root");
    Folder folder;
    std::string id = fresh_id();
    Args argv{"sh", "-c", "exec 9>\"$0/events\"; exec \"$@\"", folder.path()};
    Args whole = runner_argv(session_arguments(id, {"--rm", "--output", "raw", "--events-fd", "9"},
                                               {"sh", "-c", "printf 'a\\000b\\377'; echo bad >&2; exit 5"}));
    argv.insert(argv.end(), whole.begin(), whole.end());
    Ran ran = run(argv);
    CHECK(ran.code == 5);
    CHECK(ran.out == std::string("a\0b\377", 4));
    CHECK(ran.err == "bad\n");
    CHECK(ended(events_of(read(folder / "events")))["exit"] == 5);
  }
}
