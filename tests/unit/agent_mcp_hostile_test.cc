// The MCP client among servers that are mad and malicious.
#include "tests/unit/agent_mcp_support.h"

using namespace mcp_test;

TEST_SUITE("agent mcp: hostile servers") {
  TEST_CASE("a reply with an id that was not asked is not accepted") {
    Script script;
    CallOutcome outcome = one_call(script, [&](const json& m) {
      for (json id : {json(m["id"].get<int>() + 1), json(-1), json(m["id"].dump()), json(3.0), json(nullptr), json(1u << 30)})
        script.say({{"id", id}, {"result", {{"content", {{{"type", "text"}, {"text", "forged"}}}}}}});
      script.text(m, "true");
      script.text(m, "twice");
    });
    CHECK(text_of(outcome) == "true");
    CHECK(script.notes.size() == 6);
  }

  TEST_CASE("a line of 50 MB ends the call that waits, not the connection, and is not kept") {
    Script script;
    script.legacy([&](const json& m) {
      if (m.value("method", "") != "tools/call") return;
      if (m["params"]["name"] == "quick") return script.text(m, "ok");
      script.bytes(R"({"id":4,"result":{"content":[{"type":"text","text":")");
      for (int i = 0; i < 50; ++i) script.bytes(std::string(1u << 20, 'x'));
      script.bytes("\"}]}}\n");
    });
    McpClient client(script, script.options());
    client.begin();
    CallOutcome outcome = client.call({4, "big", "{}"});
    CHECK(outcome.result.is_error);
    CHECK(text_of(outcome).find("a line of more than 8388608 bytes") != std::string::npos);
    CHECK(text_of(client.call({5, "quick", "{}"})) == "ok");
  }

  TEST_CASE("a line may come in pieces of one byte, with a carriage return and blank lines") {
    Script script;
    CallOutcome outcome = one_call(script, [&](const json& m) {
      std::string line = "\r\n\n  \n" + json{{"id", m["id"]}, {"result", {{"content", {{{"type", "text"}, {"text", "é"}}}}}}}.dump() + "\r\n";
      for (char c : line) script.bytes(std::string(1, c));
    });
    CHECK(text_of(outcome) == "é");
  }

  TEST_CASE("JSON of hostile depth or number is not parsed, and is an error result") {
    for (std::string value : {std::string(100'000, '['), std::string(100'000, '[') + std::string(100'000, ']'), [] {
                                std::string many = "[";
                                for (int i = 0; i < 600'000; ++i) many += "[],";
                                return many + "[]]";
                              }()}) {
      Script script;
      CallOutcome outcome =
          one_call(script, [&](const json& m) { script.bytes("{\"id\":" + m["id"].dump() + ",\"result\":{\"content\":" + value + "}}\n"); });
      CHECK(outcome.result.is_error);
      CHECK(text_of(outcome).find("which is not read") != std::string::npos);
    }
  }

  TEST_CASE("lines that are no JSON are skipped, with a cleaned note, and a hundred of them are enough") {
    Script script;
    CallOutcome outcome = one_call(script, [&](const json& m) {
      script.bytes("starting\x1b[31m up\xff\n[]\n7\n\"x\"\n{}\n{\"id\":1}\n{\"id\":4,\"result\":{},\"error\":{}}\n");
      script.bytes(std::string(5000, 'y') + "\n");
      script.text(m, "ok");
    });
    CHECK(text_of(outcome) == "ok");
    REQUIRE(script.notes.size() == 8);
    CHECK(script.notes[0] == "the server sent no JSON: starting?[31m up?");
    CHECK(script.notes[7].size() < 250);

    Script mad;
    CHECK(why_not([&] {
            one_call(mad, [&](const json&) {
              for (int i = 0; i < 101; ++i) mad.bytes("debug\n");
            });
          }).find("gone: given up after 101 lines") == 0);
  }

  TEST_CASE("a flood does not hide the deadline") {
    for (std::string flood :
         {std::string("{\"method\":\"notifications/message\",\"params\":{}}\n"), std::string(10'000, '\n'), std::string("no newline at all "),
          std::string("{\"id\":1,\"result\":{}}\n"), std::string("{\"method\":\"notifications/progress\",\"params\":{\"progressToken\":3}}\n")}) {
      Script script;
      CallOutcome outcome = one_call(
          script, [&](const json&) { script.flood = flood; }, 500);
      CHECK(outcome.timed_out);
      CHECK(script.now <= 1000 + kHardestDeadline);
    }
  }

  TEST_CASE("a flood of requests is not answered without end") {
    Script script;
    CHECK(one_call(
              script, [&](const json&) { script.flood = "{\"id\":1,\"method\":\"ping\"}\n"; }, 60'000)
              .timed_out);
    CHECK(script.said.size() == 1005);
  }

  TEST_CASE("death in the middle is told with what stderr said last, after what was said before it") {
    Script script;
    CHECK(why_not([&] {
            one_call(script, [&](const json& m) {
              script.bytes("{\"id\":" + m["id"].dump() + ",\"resu");
              script.gone = true;
            });
          }) == "gone: exit 1, stderr: out of cheese");
    Script last_words;
    CHECK(text_of(one_call(last_words, [&](const json& m) {
            last_words.text(m, "the end");
            last_words.gone = true;
          })) == "the end");
  }

  TEST_CASE("half an emoji, as JavaScript cuts it, does not cost the line") {
    Script script;
    CallOutcome outcome = one_call(script, [&](const json& m) {
      script.bytes("{\"id\":" + m["id"].dump() + R"(,"result":{"content":[{"type":"text","text":"a\ud83d b\\ud83d \ud83d\ude00 \ude00"}]}})" + "\n");
    });
    CHECK(text_of(outcome) == "a\ufffd b\\ud83d \U0001F600 \ufffd");
  }
}
