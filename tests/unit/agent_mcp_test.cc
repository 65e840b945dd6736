// The MCP client among servers that are modern, old, silent and honest.
#include "tests/unit/agent_mcp_support.h"

using namespace mcp_test;

TEST_SUITE("agent mcp: begin") {
  TEST_CASE("a server that answers discovery is modern, and every request says so") {
    Script script;
    script.modern([&](const json& m) { script.text(m, "3 hits"); });
    McpClient client(script, script.options());
    Began began = client.begin();
    CHECK(began.era == Era::Modern);
    CHECK(began.version == "2026-07-28");
    CHECK(began.server == "s");
    CallOutcome outcome = client.call({client.next_id(), "grep", R"({"q":"x"})", "", "", "00-aa-bb-01"});
    CHECK(text_of(outcome) == "3 hits");
    CHECK(!outcome.result.is_error);
    REQUIRE(script.said.size() == 2);
    for (const json& request : script.said) {
      CHECK(request["params"]["_meta"]["io.modelcontextprotocol/protocolVersion"] == "2026-07-28");
      CHECK(request["params"]["_meta"]["io.modelcontextprotocol/clientCapabilities"] == json::object());
    }
    CHECK(script.said[1]["params"]["_meta"]["traceparent"] == "00-aa-bb-01");
    CHECK(script.said[1]["params"]["arguments"]["q"] == "x");
  }

  TEST_CASE("any other error makes it a legacy server, with its version if that is known") {
    Script script;
    script.legacy([&](const json& m) {
      if (m.contains("id")) script.text(m, "ok");
    });
    McpClient client(script, script.options());
    Began began = client.begin();
    CHECK(began.era == Era::Legacy);
    CHECK(began.version == "2025-06-18");
    CHECK(began.server == "old");
    REQUIRE(script.said.size() == 3);
    CHECK(script.said[1]["params"]["protocolVersion"] == "2025-11-25");
    CHECK(script.said[2] == json{{"jsonrpc", "2.0"}, {"method", "notifications/initialized"}});
    CHECK(text_of(client.call({client.next_id(), "t", ""})) == "ok");
    CHECK(!script.said[3]["params"]["_meta"].contains("io.modelcontextprotocol/protocolVersion"));

    for (std::string version : {"2031-01-01", "2026-07-28", "", "\x1b[31m"}) {
      Script other;
      other.legacy([](const json&) {}, version);
      CHECK(why_not([&] { McpClient(other, other.options()).begin(); }).find("it answered initialize with") == 0);
    }
  }

  TEST_CASE("two seconds of silence make it a legacy server") {
    Script script;
    script.heard = [&](const json& m) {
      if (m.value("method", "") == "initialize") script.result(m, {{"protocolVersion", "2024-11-05"}});
    };
    CHECK(McpClient(script, script.options()).begin().version == "2024-11-05");
    CHECK(script.now == 3000);
  }

  TEST_CASE("a server that is silent for ever is an error and is not asked to cancel initialize") {
    Script script;
    CHECK(why_not([&] { McpClient(script, script.options()).begin({}, 10'000); }) == "it did not answer initialize within 10000 ms");
    CHECK(script.said.size() == 2);
  }

  TEST_CASE("a modern server that is slow to start is modern once it refuses initialize") {
    Script script;
    script.heard = [&](const json& m) {
      if (m["method"] == "server/discover") return script.result(m, {{"supportedVersions", {"2026-07-28"}}}, 3000);
      if (m["method"] == "initialize") {
        script.bytes("");
        script.say({{"id", m["id"]}, {"error", {{"code", -32601}, {"message", "no"}}}}, 2000);
      }
    };
    CHECK(McpClient(script, script.options()).begin().era == Era::Modern);
  }

  TEST_CASE("an old server that is slow to start is legacy though it answers both") {
    Script script;
    script.heard = [&](const json& m) {
      if (m.value("method", "") == "server/discover") script.say({{"id", m["id"]}, {"error", {{"code", -32601}, {"message", "no"}}}}, 4000);
      if (m.value("method", "") == "initialize") script.result(m, {{"protocolVersion", "2025-11-25"}}, 3000);
    };
    CHECK(McpClient(script, script.options()).begin().era == Era::Legacy);
  }

  TEST_CASE("-32022 picks from what is supported") {
    auto begin = [](const json& data) {
      Script script;
      script.heard = [&](const json& m) {
        if (m.value("method", "") == "server/discover") script.error(m, -32022, data);
        if (m.value("method", "") == "initialize") script.result(m, {{"protocolVersion", m["params"]["protocolVersion"]}});
      };
      return McpClient(script, script.options()).begin();
    };
    CHECK(begin({{"supported", {"2027-01-01", "2026-07-28"}}}).era == Era::Modern);
    Began old = begin({{"supported", {"2027-01-01", "2025-03-26"}}});
    CHECK(old.era == Era::Legacy);
    CHECK(old.version == "2025-03-26");
    CHECK(why_not([&] { begin({{"supported", {"2027-01-01"}}}); }) == "it speaks none of our versions, but 2027-01-01");
    CHECK(why_not([&] { begin({{"supported", 7}}); }).find("none of our versions") != std::string::npos);
    CHECK(why_not([&] { begin({}); }).find("none of our versions") != std::string::npos);
  }

  TEST_CASE("a known era is held to") {
    Script script;
    script.legacy([](const json&) {});
    CHECK(McpClient(script, script.options()).begin(Era::Legacy).era == Era::Legacy);
    CHECK(script.said[0]["method"] == "initialize");
    CHECK(why_not([&] { McpClient(script, script.options()).begin(Era::Modern); }) ==
          "it was known to speak 2026-07-28, but answered server/discover with 'no' (code -32601)");
  }

  TEST_CASE("a server that lies about its era fails at what it is asked next, not here") {
    Script script;
    script.modern([&](const json& m) { script.error(m, -32600); });
    McpClient client(script, script.options());
    client.begin();
    CHECK(why_not([&] { client.list_tools(); }) == "it refused to list its tools: no");
    CallOutcome outcome = client.call({client.next_id(), "t", "{}"});
    CHECK(outcome.result.is_error);
    CHECK(text_of(outcome) == "The server refused the call: no (code -32600)");
  }

  TEST_CASE("a client takes over from one that is gone: ids go on and a call that was sent is awaited") {
    Script script;
    script.bytes("{\"id\":7,\"result\":{\"content\":[{\"type\":\"text\",\"text\":\"late but wanted\"}]}}\n");
    McpClient client(script, script.options());
    client.resume(Era::Legacy, "2025-06-18", 8);
    client.adopt_call(7);
    CHECK(client.next_id() == 8);
    CHECK(text_of(client.await(7)) == "late but wanted");
    CHECK(script.said.empty());
    CHECK_THROWS_AS(client.send_call({7, "t", "{}"}), std::logic_error);
  }
}

TEST_SUITE("agent mcp: tools") {
  TEST_CASE("tools come in pages and are sorted, and a hint stays a hint") {
    Script script;
    ToolList list = listed(script, [](const json& m) -> json {
      if (!m["params"].contains("cursor")) {
        json read = tool("zeta");
        read["annotations"] = {{"readOnlyHint", true}};
        return {{"tools", {read}}, {"nextCursor", "k"}};
      }
      CHECK(m["params"]["cursor"] == "k");
      json bad = tool("has blank"), deep = tool("deep"), odd = tool("odd");
      for (int i = 0; i < 40; ++i) deep["inputSchema"] = json{{"type", "object"}, {"properties", deep["inputSchema"]}};
      odd["inputSchema"] = {{"type", "string"}};
      json bare{{"name", "bare"}};
      return {{"tools", {tool("alpha"), bad, deep, odd, bare, 7}}};
    });
    REQUIRE(list.tools.size() == 3);
    CHECK(list.tools[0] == ToolDefinition{"alpha", "d", R"({"type":"object"})"});
    CHECK(list.tools[1] == ToolDefinition{"bare", "", R"({"type":"object"})"});
    CHECK(list.tools[2].name == "zeta");
    CHECK(list.read_only_hints == std::set<std::string>{"zeta"});
    CHECK(list.notes.size() == 4);
    CHECK(script.notes == list.notes);
  }

  TEST_CASE("two tools of one name are an error") {
    Script script;
    CHECK(why_not([&] { listed(script, [](const json&) { return json{{"tools", {tool("a"), tool("a")}}}; }); }) == "it has two tools named 'a'");
  }

  TEST_CASE("a list that does not end is an error, whichever way it does not end") {
    int page = 0;
    Script circle, endless, many, large;
    CHECK(why_not([&] {
            listed(circle, [](const json&) { return json{{"tools", json::array()}, {"nextCursor", "k"}}; });
          }).find("leads back") != std::string::npos);
    CHECK(why_not([&] {
            listed(endless, [&](const json&) { return json{{"tools", json::array()}, {"nextCursor", ++page}}; });
          }).find("100 pages") != std::string::npos);
    CHECK(why_not([&] {
            listed(many, [&](const json&) {
              json tools = json::array();
              for (int i = 0; i < 500; ++i) tools.push_back(tool("t" + std::to_string(++page)));
              return json{{"tools", tools}, {"nextCursor", page}};
            });
          }).find("1000 tools") != std::string::npos);
    CHECK(why_not([&] {
            listed(large, [&](const json&) {
              json one = tool("t");
              one["description"] = std::string(5u << 20, 'd');
              return json{{"tools", {one}}};
            });
          }).find("4194304 bytes") != std::string::npos);
  }

  TEST_CASE("all pages together have one deadline") {
    Script script;
    int page = 0;
    script.modern([&](const json& m) {
      if (m["method"] == "tools/list") script.result(m, {{"tools", json::array()}, {"nextCursor", ++page}}, 25'000);
    });
    McpClient client(script, script.options());
    client.begin();
    CHECK(why_not([&] { client.list_tools(); }) == "it did not list its tools within 60000 ms");
    CHECK(page == 3);
  }

  TEST_CASE("a change of the tools is remembered until they are listed again") {
    Script script;
    script.legacy([&](const json& m) {
      if (m["method"] == "tools/call") {
        script.say({{"method", "notifications/tools/list_changed"}});
        script.text(m, "ok");
      }
      if (m["method"] == "tools/list") script.result(m, {{"tools", json::array()}});
    });
    McpClient client(script, script.options());
    client.begin();
    CHECK(!client.tools_changed());
    client.call({client.next_id(), "t", "{}"});
    CHECK(client.tools_changed());
    client.list_tools();
    CHECK(!client.tools_changed());
  }
}

TEST_SUITE("agent mcp: calls") {
  TEST_CASE("content of every type becomes what a model can be shown") {
    Script script;
    CallOutcome outcome = one_call(script, [&](const json& m) {
      script.result(m, {{"isError", true},
                        {"content",
                         {{{"type", "text"}, {"text", "a"}},
                          {{"type", "image"}, {"mimeType", "image/png"}, {"data", "QUJD"}},
                          {{"type", "image"}, {"mimeType", "image/tiff"}, {"data", "QUJD"}},
                          {{"type", "image"}, {"mimeType", "image/png"}, {"data", "no base64"}},
                          {{"type", "audio"}, {"mimeType", "audio/wav"}, {"data", "QUJD"}},
                          {{"type", "resource_link"}, {"uri", "file:///x"}, {"name", "x"}},
                          {{"type", "resource"}, {"resource", {{"uri", "file:///y"}, {"text", "body"}}}},
                          {{"type", "resource"}, {"resource", {{"uri", "file:///z"}, {"blob", "QUJD"}}}},
                          {{"type", "hologram"}},
                          7}}});
    });
    CHECK(outcome.result.is_error);
    REQUIRE(outcome.result.content.size() == 10);
    CHECK(std::get<Image>(outcome.result.content[1]) == Image{"image/png", "QUJD"});
    CHECK(std::get<Text>(outcome.result.content[6]).text == "[resource file:///y]\nbody");
    CHECK(text_of(outcome).find("[an image of type 'image/tiff', 4 bytes of base64, is not shown]") != std::string::npos);
  }

  TEST_CASE("structured content is shown when there is no other") {
    Script script;
    CHECK(text_of(one_call(script, [&](const json& m) {
            script.result(m, {{"content", json::array()}, {"structuredContent", {{"n", 1}}}});
          })) == R"({"n":1})");
  }

  TEST_CASE("a text beyond a megabyte is cut between characters, and says so") {
    Script script;
    std::string text = "x";
    while (text.size() < 3u << 20) text += "ä";
    CallOutcome outcome = one_call(script, [&](const json& m) { script.text(m, text); });
    CHECK(text_of(outcome).size() < kLongestText + 200);
    CHECK(text_of(outcome).find("ä\n[cut here: 2097154 more bytes") != std::string::npos);
  }

  TEST_CASE("an answer that is no result is an error result") {
    for (json answer : {json(7), json{{"content", 7}}, json::array(), json("text")}) {
      Script script;
      CHECK(one_call(script, [&](const json& m) { script.result(m, answer); }).result.is_error);
    }
  }

  TEST_CASE("arguments that are no JSON object are not sent and are an error result") {
    for (const std::string& arguments : {std::string("{"), std::string("[]"), std::string(100'000, '['), std::string("\xff"), std::string("7")}) {
      Script script;
      script.legacy([](const json&) {});
      McpClient client(script, script.options());
      client.begin();
      CallOutcome outcome = client.call({client.next_id(), "t", arguments});
      CHECK(outcome.result.is_error);
      CHECK(text_of(outcome).find("The call was not made") == 0);
      CHECK(script.said.size() == 3);
    }
  }

  TEST_CASE("a server may ask for input, and the call goes on with a new id and the same state") {
    Script script;
    const std::string state = "opaque \\\" \xc3\xa9 {}";
    script.modern([&](const json& m) {
      if (!m["params"].contains("inputResponses"))
        return script.result(
            m, {{"resultType", "input_required"}, {"requestState", state}, {"inputRequests", {{"who", {{"method", "elicitation/create"}}}}}});
      CHECK(m["params"]["requestState"] == state);
      CHECK(m["params"]["inputResponses"]["who"]["action"] == "accept");
      CHECK(m["params"]["arguments"] == json{{"a", 1}});
      script.text(m, "done");
    });
    McpClient client(script, script.options());
    client.begin();
    CallOutcome first = client.call({client.next_id(), "t", R"({"a":1})"});
    REQUIRE(first.input);
    CHECK(json::parse(first.input->input_requests)["who"]["method"] == "elicitation/create");
    McpCall again{client.next_id(), "t", R"({"a":1})", first.input->request_state, R"({"who":{"action":"accept"}})"};
    CHECK(text_of(client.call(again)) == "done");
    CHECK(script.said[1]["id"] != script.said[2]["id"]);
  }

  TEST_CASE("input that is asked for in a wrong way is an error result, and no such thing exists in the legacy era") {
    for (json wrong : {json{{"resultType", "input_required"}}, json{{"resultType", "input_required"}, {"inputRequests", 7}},
                       json{{"resultType", "input_required"}, {"requestState", std::string(2u << 20, 's')}}}) {
      Script script;
      script.modern([&](const json& m) { script.result(m, wrong); });
      McpClient client(script, script.options());
      client.begin();
      CallOutcome outcome = client.call({client.next_id(), "t", "{}"});
      CHECK(outcome.result.is_error);
      CHECK(!outcome.input);
    }
    Script old;
    CHECK(!one_call(old, [&](const json& m) { old.result(m, {{"resultType", "input_required"}, {"requestState", "s"}}); }).input);
  }

  TEST_CASE("two calls may wait, and are awaited in any order") {
    Script script;
    script.legacy([&](const json& m) {
      if (m["method"] == "tools/call") script.text(m, m["params"]["name"]);
    });
    McpClient client(script, script.options());
    client.begin();
    client.send_call({10, "first", "{}"});
    client.send_call({11, "second", "{}"});
    CHECK(text_of(client.await(11)) == "second");
    CHECK(text_of(client.await(10)) == "first");
  }

  TEST_CASE("at the deadline a call is cancelled, and its late reply is dropped") {
    Script script;
    script.legacy([&](const json& m) {
      if (m["method"] == "tools/call") script.text(m, m["params"]["name"], m["params"]["name"] == "slow" ? 1500 : 10);
    });
    McpClient client(script, script.options());
    client.begin();
    CallOutcome slow = client.call({20, "slow", "{}"}, 1000);
    CHECK(slow.timed_out);
    CHECK(slow.result.is_error);
    CHECK(script.said.back()["method"] == "notifications/cancelled");
    CHECK(script.said.back()["params"]["requestId"] == 20);
    script.now += 10'000;
    CHECK(text_of(client.call({21, "quick", "{}"}, 1000)) == "quick");
    CHECK(script.notes.empty());
  }

  TEST_CASE("progress extends the deadline, but not without end, and only that of its own call") {
    auto with_progress = [](int token_offset) {
      Script script;
      CallOutcome outcome = one_call(
          script,
          [&](const json& m) {
            for (int i = 1; i <= 100; ++i)
              script.say({{"method", "notifications/progress"}, {"params", {{"progressToken", m["id"].get<int>() + token_offset}, {"progress", i}}}},
                         static_cast<std::uint64_t>(i) * 20'000);
          },
          30'000);
      CHECK(outcome.timed_out);
      return script.now - 1000;
    };
    CHECK(with_progress(0) == kHardestDeadline);
    CHECK(with_progress(1) == 30'000);
  }

  TEST_CASE("requests of a legacy server are answered: ping with nothing, all others with a refusal") {
    Script script;
    script.legacy([&](const json& m) {
      if (m.value("method", "") != "tools/call") return;
      script.say({{"id", "p"}, {"method", "ping"}});
      script.say({{"id", 0}, {"method", "sampling/createMessage"}});
      script.say({{"id", json::array()}, {"method", "ping"}});
      script.text(m, "ok");
    });
    McpClient client(script, script.options());
    client.begin();
    client.call({client.next_id(), "t", "{}"});
    REQUIRE(script.said.size() == 6);
    CHECK(script.said[4] == json{{"jsonrpc", "2.0"}, {"id", "p"}, {"result", json::object()}});
    CHECK(script.said[5]["id"] == 0);
    CHECK(script.said[5]["error"]["code"] == -32601);
    CHECK(script.notes.size() == 1);
  }

  TEST_CASE("requests of a modern server are never answered") {
    Script script;
    script.modern([&](const json& m) {
      script.say({{"id", 1}, {"method", "ping"}});
      script.text(m, "ok");
    });
    McpClient client(script, script.options());
    client.begin();
    client.call({client.next_id(), "t", "{}"});
    CHECK(script.said.size() == 2);
  }
}
