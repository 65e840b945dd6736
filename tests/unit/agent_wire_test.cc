// What the readers of the providers' streams make of good, cut and strange ones.
#include <doctest/doctest.h>

#include <vector>

#include "runner/agent/anthropic.h"
#include "runner/agent/openai.h"
#include "runner/agent/sse.h"

using namespace runner::agent;

namespace {

using Result = std::variant<Completion, Failure>;

std::string event(const std::string& type, const std::string& data) { return "event: " + type + "\ndata: " + data + "\n\n"; }
std::string chunk(const std::string& data) { return "data: " + data + "\n\n"; }

std::vector<SseEvent> events_of(const std::string& text, std::size_t piece = 1 << 20) {
  std::vector<SseEvent> events;
  SseParser parser([&](const SseEvent& event) { events.push_back(event); });
  for (std::size_t at = 0; at < text.size(); at += piece) CHECK(parser.feed(std::string_view(text).substr(at, piece)));
  return events;
}

template <typename Kind>
Result read(std::string_view text, std::size_t piece = 1 << 20, const Request& request = {.model = "m"}) {
  Kind reader(request);
  for (std::size_t at = 0; at < text.size(); at += piece) reader.feed(text.substr(at, piece));
  return reader.finish();
}
Result anthropic(std::string_view text) { return read<AnthropicReader>(text); }
Result openai(std::string_view text) { return read<OpenAiReader>(text); }

const Completion& good(const Result& result) {
  if (const auto* failure = std::get_if<Failure>(&result)) FAIL(failure->reason);
  return std::get<Completion>(result);
}
const Failure& bad(const Result& result) {
  REQUIRE(std::holds_alternative<Failure>(result));
  return std::get<Failure>(result);
}
ToolCall call_of(const Result& result, std::size_t part = 0) { return std::get<ToolCall>(good(result).message.parts.at(part)); }

std::string begun(const std::string& blocks) {
  std::string usage = R"({"input_tokens":10,"cache_read_input_tokens":3,"output_tokens":1})";
  return event("message_start", R"({"type":"message_start","message":{"usage":)" + usage + "}}") + blocks;
}
std::string stopped(const std::string& reason) {
  return event("message_delta", R"({"type":"message_delta","delta":{"stop_reason":")" + reason + R"("},"usage":{"output_tokens":42}})") +
         event("message_stop", R"({"type":"message_stop"})");
}
std::string block(int index, const std::string& start, const std::vector<std::string>& deltas) {
  std::string at = R"("index":)" + std::to_string(index);
  std::string text = event("content_block_start", R"({"type":"content_block_start",)" + at + R"(,"content_block":)" + start + "}");
  for (const std::string& delta : deltas)
    text += event("content_block_delta", R"({"type":"content_block_delta",)" + at + R"(,"delta":)" + delta + "}");
  return text + event("content_block_stop", R"({"type":"content_block_stop",)" + at + "}");
}
std::string text_block(int index, const std::string& text) {
  return block(index, R"({"type":"text","text":""})", {R"({"type":"text_delta","text":")" + text + R"("})"});
}
std::string call_block(int index, const std::string& escaped) {
  std::string delta = R"({"type":"input_json_delta","partial_json":")" + escaped + R"("})";
  return block(index, R"({"type":"tool_use","id":"tu_1","name":"exec","input":{}})", {delta});
}

const std::string kThinking = R"({"type":"thinking","thinking":"","signature":""})";
const std::string kRedacted = R"({"type":"redacted_thinking", "data":"b\u0061se64=="})";

std::string whole_anthropic() {
  return begun(block(0, kThinking, {R"({"type":"thinking_delta","thinking":"Hm, "})", R"({"type":"thinking_delta","thinking":"ä\n"})",
                                    R"({"type":"signature_delta","signature":"c2ln"})"}) +
               event("ping", R"({"type":"ping"})") + block(1, kRedacted, {}) + text_block(2, "I look.") +
               block(3, R"({"type":"tool_use","id":"tu_1","name":"exec","input":{}})",
                     {R"({"type":"input_json_delta","partial_json":""})", R"({"type":"input_json_delta","partial_json":"{\"argv\": [\"una"})",
                      R"({"type":"input_json_delta","partial_json":"me\"]}"})"}) +
               event("of_the_future", "not even JSON")) +
         stopped("tool_use");
}

std::string whole_openai() {
  return ": a comment\n\n" + chunk(R"({"choices":[{"index":0,"delta":{"role":"assistant","content":"I "},"finish_reason":null}],"usage":null})") +
         chunk(R"({"choices":[{"index":0,"delta":{"content":"lööк."}}]})") +
         chunk(R"({"choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"id":"c1","function":{"name":"exec","arguments":""}}]}}]})") +
         chunk(R"({"choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"function":{"arguments":"{\"argv\":"}}]}}]})") +
         chunk(R"({"choices":[{"index":0,"delta":{"tool_calls":[{"index":1,"id":"c2","function":{"name":"stat","arguments":"{}"}}]}}]})") +
         chunk(R"({"choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"function":{"arguments":"[\"ls\"]}"}}]}}]})") +
         chunk(R"({"choices":[{"index":0,"delta":{},"finish_reason":"tool_calls"}]})");
}
const std::string kOpenAiEnd =
    chunk(R"({"choices":[],"usage":{"prompt_tokens":100,"completion_tokens":20,"prompt_tokens_details":{"cached_tokens":60},)"
          R"("completion_tokens_details":{"reasoning_tokens":5}}})") + chunk("[DONE]");

void same(const Completion& one, const Completion& other) {
  CHECK(one.message == other.message);
  CHECK(one.stop == other.stop);
  CHECK(one.usage == other.usage);
}

}  // namespace

TEST_CASE("events are parsed alike whatever ends their lines and wherever they are cut") {
  for (std::string end : {"\n", "\r", "\r\n"}) {
    std::string text = "\xEF\xBB\xBF: comment" + end + "data: one" + end + "data:two" + end + "id: 7" + end + end + "event: e" + end + "data" + end +
                       end + "event: lost" + end + end + "data:  x" + end + "other: y" + end + end + "data: never ended" + end;
    for (std::size_t piece = 1; piece <= 7; ++piece) {
      auto events = events_of(text, piece);
      REQUIRE(events.size() == 3);
      CHECK(events[0].data == "one\ntwo");
      CHECK(events[0].type == "message");
      CHECK(events[1].type == "e");
      CHECK(events[1].data == "");
      CHECK(events[2].data == " x");
      CHECK(events[2].type == "message");
      CHECK(events[2].id == "7");
    }
  }
}

TEST_CASE("retry is a number, and an id with a NUL in it is none") {
  SseParser parser([](const SseEvent& event) { CHECK(event.id == "1"); });
  CHECK(parser.feed(std::string("retry: 12a\nid: 1\nid: a\0b\ndata: x\n\n", 34)));
  CHECK(parser.retry() == 0);
  CHECK(parser.feed("retry: 1500\n"));
  CHECK(parser.retry() == 1500);
}

TEST_CASE("an event that is too large is an error, in one line or in many") {
  unsigned seen = 0;
  auto make = [&] { return SseParser([&](const SseEvent&) { ++seen; }, 100); };
  SseParser one = make(), many = make(), small = make();
  CHECK(!one.feed("data: " + std::string(200, 'x')));
  CHECK(!one.feed("\n\ndata: y\n\n"));
  bool fine = true;
  for (int i = 0; i < 50; ++i) fine = fine && many.feed("data: 12345\n");
  CHECK(!fine);
  CHECK(seen == 0);
  for (int i = 0; i < 50; ++i) CHECK(small.feed("data: 12345\n\n"));
  CHECK(seen == 50);
  AnthropicReader reader({});
  reader.feed("data: " + std::string(9u << 20, 'x'));
  CHECK(bad(reader.finish()).trouble == Trouble::Permanent);
}

TEST_CASE("anthropic: a stream is read with thinking, text, calls and usage") {
  Result result = anthropic(whole_anthropic());
  const Completion& completion = good(result);
  REQUIRE(completion.message.parts.size() == 4);
  const auto& thought = std::get<Opaque>(completion.message.parts[0]);
  CHECK(thought.provider == "anthropic");
  CHECK(thought.model == "m");
  CHECK(thought.json == R"({"signature":"c2ln","thinking":"Hm, ä\n","type":"thinking"})");
  CHECK(std::get<Opaque>(completion.message.parts[1]).json == kRedacted);
  CHECK(std::get<Text>(completion.message.parts[2]).text == "I look.");
  CHECK(call_of(result, 3) == ToolCall{"tu_1", "exec", R"({"argv": ["uname"]})"});
  CHECK(completion.stop == Stop::ToolCalls);
  CHECK(completion.usage == Usage{.input = 10, .cache_read = 3, .output = 42});
}

TEST_CASE("anthropic: a stream that is cut anywhere before message_stop is no success") {
  std::string whole = whole_anthropic();
  for (std::size_t size = 0; size < whole.size(); ++size)
    CHECK(bad(anthropic(std::string_view(whole).substr(0, size))).trouble == Trouble::Transient);
  for (std::size_t piece = 1; piece <= 7; ++piece) same(good(read<AnthropicReader>(whole, piece)), good(anthropic(whole)));
}

TEST_CASE("anthropic: what was told of the usage is in the failure") {
  CHECK(bad(anthropic(begun(text_block(0, "half")))).usage.input == 10);
}

TEST_CASE("anthropic: an error after status 200 is mapped by its type") {
  auto trouble = [](const std::string& type, const std::string& message) {
    std::string error = R"({"type":"error","error":{"type":")" + type + R"(","message":")" + message + R"("}})";
    return bad(anthropic(begun(text_block(0, "x")) + event("error", error)));
  };
  for (const char* type : {"overloaded_error", "rate_limit_error", "api_error", "timeout_error", "of_the_future"})
    CHECK(trouble(type, "x").trouble == Trouble::Transient);
  for (const char* type : {"authentication_error", "permission_error", "not_found_error", "invalid_request_error"})
    CHECK(trouble(type, "x").trouble == Trouble::Permanent);
  CHECK(trouble("invalid_request_error", "prompt is too long: 250000 tokens").trouble == Trouble::Overflow);
  CHECK(trouble("overloaded_error", "Overloaded").reason == "the provider broke off its answer: overloaded_error: Overloaded");
}

TEST_CASE("anthropic: each stop_reason has its meaning") {
  auto stop = [](const std::string& reason) { return good(anthropic(begun(text_block(0, "x")) + stopped(reason))).stop; };
  CHECK(stop("end_turn") == Stop::Done);
  CHECK(stop("stop_sequence") == Stop::Done);
  CHECK(stop("max_tokens") == Stop::Length);
  CHECK(stop("pause_turn") == Stop::Pause);
  CHECK(stop("refusal") == Stop::Refusal);
  CHECK(stop("model_context_window_exceeded") == Stop::ContextOverflow);
}

TEST_CASE("anthropic: a call that max_tokens has cut is Truncated, a whole one is a call") {
  CHECK(bad(anthropic(begun(call_block(0, R"({\"path\":\"/a)")) + stopped("max_tokens"))).trouble == Trouble::Truncated);
  CHECK(bad(anthropic(begun(call_block(0, "")) + stopped("max_tokens"))).trouble == Trouble::Truncated);
  CHECK(good(anthropic(begun(call_block(0, R"({\"path\":1})")) + stopped("max_tokens"))).stop == Stop::ToolCalls);
  CHECK(call_of(anthropic(begun(call_block(0, "")) + stopped("tool_use"))).arguments == "{}");
  CHECK(call_of(anthropic(begun(call_block(0, "{oops")) + stopped("tool_use"))).arguments == "{oops");
}

TEST_CASE("anthropic: neither text nor a call is Empty, but a pause and a refusal may be") {
  for (const std::string& blocks : {std::string(), text_block(0, " "), block(0, kRedacted, {})}) {
    CHECK(bad(anthropic(begun(blocks) + stopped("end_turn"))).trouble == Trouble::Empty);
    CHECK(good(anthropic(begun(blocks) + stopped("pause_turn"))).stop == Stop::Pause);
    CHECK(good(anthropic(begun(blocks) + stopped("refusal"))).stop == Stop::Refusal);
  }
}

TEST_CASE("anthropic: a call of an answer that was refused is dropped, since nobody will run it") {
  CHECK(good(anthropic(begun(call_block(0, "{}")) + stopped("refusal"))).message.parts.empty());
}

TEST_CASE("anthropic: a body that is no stream is read, and only when it is whole") {
  std::string body = R"( {"type":"message","content":[{"type":"redacted_thinking",  "data":"eA"},{"type":"text","text":"a ] \" }"},)"
                     R"({"type":"tool_use","id":"t","name":"n","input":{"b": 1, "a":2}}],"stop_reason":"tool_use",)"
                     R"("usage":{"input_tokens":5,"output_tokens":6}})";
  Result result = anthropic(body);
  CHECK(std::get<Opaque>(good(result).message.parts.at(0)).json == R"({"type":"redacted_thinking",  "data":"eA"})");
  CHECK(std::get<Text>(good(result).message.parts.at(1)).text == "a ] \" }");
  CHECK(call_of(result, 2).arguments == R"({"b": 1, "a":2})");
  CHECK(good(result).usage == Usage{.input = 5, .output = 6});
  for (std::size_t size = 0; size < body.size(); ++size) CHECK(bad(anthropic(body.substr(0, size))).trouble == Trouble::Transient);
  CHECK(bad(anthropic(R"({"type":"error","error":{"type":"authentication_error","message":"no"}})")).trouble == Trouble::Permanent);
}

TEST_CASE("anthropic: what is no stream of events, or a broken one, is a failure and never a crash") {
  CHECK(bad(anthropic("<html>busy</html>")).trouble == Trouble::Transient);
  CHECK(bad(anthropic(event("content_block_delta", R"({"type":"content_block_delta","index":9,"delta":{}})"))).trouble == Trouble::Transient);
  CHECK(bad(anthropic(event("message_start", std::string(100'000, '[')))).trouble == Trouble::Transient);
  CHECK(bad(anthropic(event("message_start", R"([1])"))).trouble == Trouble::Transient);
  CHECK(bad(anthropic(begun(block(0, R"({"type":"tool_use","id":"x"})", {})) + stopped("tool_use"))).trouble == Trouble::Transient);
}

TEST_CASE("openai: a stream is read with text, interleaved calls and usage") {
  Result result = openai(whole_openai() + kOpenAiEnd);
  CHECK(std::get<Text>(good(result).message.parts.at(0)).text == "I lööк.");
  CHECK(call_of(result, 1) == ToolCall{"c1", "exec", R"({"argv":["ls"]})"});
  CHECK(call_of(result, 2) == ToolCall{"c2", "stat", "{}"});
  CHECK(good(result).stop == Stop::ToolCalls);
  CHECK(good(result).usage == Usage{.input = 40, .cache_read = 60, .output = 20, .reasoning = 5});
}

TEST_CASE("openai: a stream that is cut anywhere before finish_reason is no success") {
  std::string before = whole_openai(), whole = before + kOpenAiEnd;
  for (std::size_t size = 0; size < before.size(); ++size)
    CHECK(bad(openai(std::string_view(whole).substr(0, size))).trouble == Trouble::Transient);
  for (std::size_t size = before.size(); size < whole.size(); ++size)
    CHECK(good(openai(std::string_view(whole).substr(0, size))).stop == Stop::ToolCalls);
  for (std::size_t piece = 1; piece <= 7; ++piece) same(good(read<OpenAiReader>(whole, piece)), good(openai(whole)));
}

TEST_CASE("openai: [DONE] alone ends an answer, too") {
  CHECK(good(openai(chunk(R"({"choices":[{"delta":{"content":"x"}}]})") + chunk("[DONE]"))).stop == Stop::Done);
}

namespace {

std::string calls(const std::string& list, const std::string& finish = "") {
  return chunk(R"({"choices":[{"delta":{"tool_calls":[)" + list + "]}" + (finish.empty() ? "" : R"(,"finish_reason":")" + finish + '"') + "}]}");
}
std::string fragment(const std::string& id, const std::string& name, const std::string& arguments, const std::string& index = R"("index":0,)") {
  return "{" + index + (id.empty() ? "" : R"("id":")" + id + R"(",)") + R"("function":{)" + (name.empty() ? "" : R"("name":")" + name + R"(",)") +
         R"("arguments":)" + arguments + "}}";
}

}  // namespace

TEST_CASE("openai: calls count although finish_reason says stop") {
  CHECK(good(openai(calls(fragment("a", "exec", R"("{}")"), "stop"))).stop == Stop::ToolCalls);
}

TEST_CASE("openai: a new id opens a new call where the index is always 0 or missing") {
  for (std::string index : {R"("index":0,)", ""}) {
    Result result = openai(calls(fragment("a", "exec", R"("{\"x\"")", index)) + calls(fragment("", "", R"(":1}")", index)) +
                           calls(fragment("b", "exec", R"("{}")", index), "tool_calls"));
    CHECK(call_of(result, 0) == ToolCall{"a", "exec", R"({"x":1})"});
    CHECK(call_of(result, 1) == ToolCall{"b", "exec", "{}"});
  }
}

TEST_CASE("openai: a new name opens a new call, and ids are made where there are none") {
  Request request{.model = "m", .messages = {Message{Role::Assistant, {ToolCall{"call_1_0", "x", "{}"}}}}};
  std::string text = calls(fragment("", "exec", R"({"b":1})")) + calls(fragment("", "stat", R"({})")) +
                     calls(fragment("", "stat", R"({"c":2})"), "stop");
  Result result = read<OpenAiReader>(text, 3, request);
  CHECK(call_of(result, 0) == ToolCall{"call_1_1", "exec", R"({"b":1})"});
  CHECK(call_of(result, 1) == ToolCall{"call_1_2", "stat", "{}"});
  CHECK(call_of(result, 2) == ToolCall{"call_1_3", "stat", R"({"c":2})"});
}

TEST_CASE("openai: a name or an id that is repeated with every fragment opens nothing") {
  Result result = openai(calls(fragment("a", "exec", R"("{")")) + calls(fragment("a", "exec", R"("}")")) +
                         calls(fragment("", "", R"("")"), "tool_calls"));
  CHECK(good(result).message.parts.size() == 1);
  CHECK(call_of(result).arguments == "{}");
  CHECK(good(openai(calls(fragment("", "exec", R"("{")")) + calls(fragment("", "exec", R"("}")"), "stop"))).message.parts.size() == 1);
  CHECK(call_of(openai(calls(fragment("a", "", R"("")")) + calls(fragment("", "exec", R"("{}")"), "stop"))) == ToolCall{"a", "exec", "{}"});
}

TEST_CASE("openai: an id that a call has already, in this answer or an earlier one, is replaced") {
  Request request{.model = "m", .messages = {Message{Role::Assistant, {ToolCall{"call_0", "x", "{}"}}}}};
  std::string text = calls(fragment("call_0", "exec", R"("{}")") + "," + fragment("call_0", "stat", R"("{}")", R"("index":1,)"), "tool_calls");
  Result result = read<OpenAiReader>(text, 100, request);
  CHECK(call_of(result, 0) == ToolCall{"call_1_0", "exec", "{}"});
  CHECK(call_of(result, 1) == ToolCall{"call_1_1", "stat", "{}"});
}

TEST_CASE("openai: length within a call is Truncated, length with text is Length") {
  CHECK(bad(openai(calls(fragment("a", "exec", R"("{\"x")"), "length"))).trouble == Trouble::Truncated);
  CHECK(good(openai(chunk(R"({"choices":[{"delta":{"content":"x"},"finish_reason":"length"}]})"))).stop == Stop::Length);
}

TEST_CASE("openai: a filter and a refusal are Refusal, and nothing at all is Empty") {
  CHECK(good(openai(chunk(R"({"choices":[{"delta":{},"finish_reason":"content_filter"}]})"))).stop == Stop::Refusal);
  CHECK(good(openai(chunk(R"({"choices":[{"delta":{"refusal":"no"},"finish_reason":"stop"}]})"))).stop == Stop::Refusal);
  CHECK(bad(openai(chunk(R"({"choices":[{"delta":{},"finish_reason":"tool_calls"}]})"))).trouble == Trouble::Empty);
}

TEST_CASE("openai: an error inside the stream is a failure by its type or number") {
  auto trouble = [](const std::string& error) {
    return bad(openai(chunk(R"({"choices":[{"delta":{"content":"x"}}]})") + chunk(R"({"error":)" + error + "}"))).trouble;
  };
  CHECK(trouble(R"({"code":429,"message":"slow"})") == Trouble::Transient);
  CHECK(trouble(R"({"code":502})") == Trouble::Transient);
  CHECK(trouble(R"("something")") == Trouble::Transient);
  CHECK(trouble(R"({"code":"context_length_exceeded","type":"invalid_request_error"})") == Trouble::Overflow);
  CHECK(trouble(R"({"type":"invalid_request_error"})") == Trouble::Permanent);
  CHECK(bad(openai(chunk(R"({"choices":[{"delta":{"content":"x"},"finish_reason":"error"}]})"))).trouble == Trouble::Transient);
}

TEST_CASE("openai: a body that is no stream is read") {
  Result result = openai(R"({"choices":[{"index":0,"message":{"content":null,)"
                         R"("tool_calls":[{"id":"a","function":{"name":"exec","arguments":{"x":1}}}]},)"
                         R"("finish_reason":"stop"}],"usage":{"prompt_tokens":7,"completion_tokens":2}})");
  CHECK(call_of(result) == ToolCall{"a", "exec", R"({"x":1})"});
  CHECK(good(result).usage == Usage{.input = 7, .output = 2});
  Result parts = openai(R"({"choices":[{"message":{"content":[{"type":"text","text":"a"},{"text":"b"}]}}]})");
  CHECK(std::get<Text>(good(parts).message.parts.at(0)).text == "ab");
  CHECK(bad(openai(R"({"choices":[{"message":{"content":"x"},"finish_reason":"stop"}])")).trouble == Trouble::Transient);
}

TEST_CASE("the text of the model is told as it comes") {
  std::string told;
  AnthropicReader one({}, [&](std::string_view text) { told += text; });
  one.feed(begun(text_block(0, "half")));
  CHECK(told == "half");
  OpenAiReader other({}, [&](std::string_view text) { told += text; });
  other.feed(whole_openai());
  CHECK(told == "halfI lööк.");
}
