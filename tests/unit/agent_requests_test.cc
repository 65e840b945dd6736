// What is sent to providers, what is made of their failures, and the conversation with runner-model, whose part a thread plays here.
#include <doctest/doctest.h>
#include <sys/socket.h>
#include <unistd.h>

#include <nlohmann/json.hpp>
#include <thread>

#include "isolate/sys/socket.h"
#include "runner/agent/anthropic.h"
#include "runner/agent/http_provider.h"
#include "runner/agent/json_text.h"
#include "runner/agent/model/protocol.h"
#include "runner/agent/openai.h"
#include "runner/agent/trouble.h"

using namespace runner::agent;
using nlohmann::json;
using isolate::sys::Fd;

namespace {

const std::string kThought = R"({"type":"thinking", "signature":"\u0041=", "thinking":"x"})";

Request conversation() {
  Request request{.model = "m", .system = "Be brief."};
  request.tools.push_back({"exec", "Run a program", R"({"type":"object","properties":{"z":{},"a":{}}})"});
  request.messages = {Message{Role::User, {Text{"What is it?"}}},
                      Message{Role::Assistant, {Text{"I look."}, Opaque{"anthropic", "m", kThought}, ToolCall{"t1", "exec", R"({"b":1, "a":2})"},
                                                ToolCall{"t.2", "exec", "{oops"}}},
                      Message{Role::Tool, {ToolResult{"t1", false, {Text{"6.18"}, Image{"image/png", "aGk="}}},
                                           ToolResult{"t.2", true, {Text{"bad"}}}}},
                      Message{Role::User, {Text{"And?"}}}};
  return request;
}

bool has(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

}  // namespace

TEST_CASE("pieces of JSON are taken out and put in byte for byte") {
  std::string text = R"( {"a" : "}\"]" , "b":[1, {"c":[ ]},"x,y" ],"c":-1.5e3 , "b" : { "d" : 2 } } )";
  CHECK(member(text, "a") == R"("}\"]")");
  CHECK(member(text, "b") == R"({ "d" : 2 })");
  CHECK(member(text, "c") == "-1.5e3");
  CHECK(member(text, "d") == "");
  CHECK(elements(R"([1, {"c":[ ]},"x,y" ])") == std::vector<std::string_view>{"1", R"({"c":[ ]})", R"("x,y")"});
  CHECK(elements("[ ]").empty());
  CHECK(is_object(" {} "));
  for (std::string other : {"", "[]", "{", "{}{}", "1", "{\"a\":\"\xff\"}"}) CHECK(!is_object(other));
  std::string deep = "1";
  for (int i = 0; i < 200; ++i) deep = "{\"a\":" + deep + "}";
  CHECK(!is_object(deep));
}

TEST_CASE("anthropic: thinking goes back first and byte for byte, and results before all else in one message") {
  std::string body = anthropic_body(conversation());
  CHECK(has(body, R"("content":[)" + kThought + R"(,{"type":"text")"));
  CHECK(has(body, R"("input":{"b":1, "a":2})"));
  CHECK(has(body, R"("input_schema":{"type":"object","properties":{"z":{},"a":{}}})"));
  json messages = json::parse(body)["messages"];
  REQUIRE(messages.size() == 3);
  CHECK(messages[1]["content"][3]["input"] == json::object());  // {oops
  json user = messages[2]["content"];
  REQUIRE(user.size() == 3);
  CHECK(user[0]["tool_use_id"] == "t1");
  CHECK(user[0]["is_error"] == false);
  CHECK(user[0]["content"][1]["source"]["media_type"] == "image/png");
  CHECK(user[1]["tool_use_id"] == "t_2");  // as in its call: the API allows no dots
  CHECK(messages[1]["content"][3]["id"] == "t_2");
  CHECK(user[1]["is_error"] == true);
  CHECK(user[2]["text"] == "And?");
}

TEST_CASE("anthropic: the system text is cached, and there are no tools where none are") {
  json body = json::parse(anthropic_body(conversation()));
  CHECK(body["system"].back()["cache_control"]["type"] == "ephemeral");
  CHECK(body["stream"] == true);
  CHECK(body["max_tokens"] == 8192);
  CHECK(body["tool_choice"]["type"] == "auto");
  json bare = json::parse(anthropic_body({.model = "m"}));
  CHECK(!bare.contains("tools"));
  CHECK(!bare.contains("tool_choice"));
  CHECK(!bare.contains("system"));
}

TEST_CASE("anthropic: another model or provider gets no thinking, not even a part of it") {
  Request request = conversation();
  request.model = "other";
  CHECK(!has(anthropic_body(request), "thinking"));
  request = conversation();
  request.messages[1].parts.push_back(Opaque{"anthropic", "older", kThought});
  CHECK(!has(anthropic_body(request), "thinking"));
  CHECK(!has(openai_body(conversation()), "thinking"));
}

TEST_CASE("anthropic: a paused answer goes back in its own order") {
  Request request{.model = "m"};
  std::string use = R"({"type":"server_tool_use","id":"s","name":"web_search","input":{}})";
  Opaque thought{"anthropic", "m", kThought};
  request.messages = {Message{Role::User, {Text{"?"}}},
                      Message{Role::Assistant, {thought, Text{"a"}, Opaque{"anthropic", "m", use}, thought, Text{"b"}}}};
  CHECK(has(anthropic_body(request), "[" + kThought + R"(,{"type":"text","text":"a"},)" + use + "," + kThought + R"(,{"type":"text","text":"b"}])"));
}

TEST_CASE("options are merged into the body, null takes a member away, and the conversation stays") {
  Request request = conversation();
  request.options = R"({"thinking":{"type":"adaptive"},"tool_choice":null,"messages":[]})";
  json body = json::parse(anthropic_body(request));
  CHECK(body["thinking"]["type"] == "adaptive");
  CHECK(!body.contains("tool_choice"));
  CHECK(body["messages"].size() == 3);
  request.options = "[]";
  CHECK_THROWS_WITH(anthropic_body(request), "use the options of a model: they must be a JSON object");
}

TEST_CASE("text that is not UTF-8 makes a valid body all the same") {
  Request request{.model = "m", .messages = {Message{Role::User, {Text{"a\xff"}}}}};
  CHECK(json::accept(anthropic_body(request)));
  CHECK(json::accept(openai_body(request)));
}

TEST_CASE("openai: each result has its message, errors say so, and images follow in one of the user") {
  json body = json::parse(openai_body(conversation()));
  json messages = body["messages"];
  REQUIRE(messages.size() == 7);
  CHECK(messages[0] == json{{"role", "system"}, {"content", "Be brief."}});
  CHECK(messages[2]["content"] == "I look.");
  CHECK(messages[2]["tool_calls"][0]["function"]["arguments"] == R"({"b":1, "a":2})");
  CHECK(messages[2]["tool_calls"][1]["function"]["arguments"] == "{}");
  CHECK(messages[3]["role"] == "tool");
  CHECK(messages[3]["tool_call_id"] == "t1");
  CHECK(messages[3]["content"] == "6.18\n(Its images follow.)");
  CHECK(messages[4]["content"] == "Error: bad");
  CHECK(messages[5]["role"] == "user");
  CHECK(messages[5]["content"][1]["image_url"]["url"] == "data:image/png;base64,aGk=");
  CHECK(messages[6]["content"] == "And?");
  CHECK(body["max_completion_tokens"] == 8192);
  CHECK(body["stream_options"]["include_usage"] == true);
}

TEST_CASE("openai: a call without text has content null, and one limit of tokens is told, not two") {
  Request request{.model = "m", .messages = {Message{Role::Assistant, {ToolCall{"a", "x", ""}}}}, .options = R"({"max_tokens":5})"};
  json body = json::parse(openai_body(request));
  CHECK(body["messages"][0]["content"].is_null());
  CHECK(body["max_tokens"] == 5);
  CHECK(!body.contains("max_completion_tokens"));
}

TEST_CASE("the path of an API follows what the base URL holds of it") {
  for (std::string url : {"https://api.anthropic.com", "https://api.anthropic.com/", "https://h/v1", "https://h:8443/v1/", "", "/v1"})
    CHECK(api_path(Api::Anthropic, url) == "/v1/messages");
  CHECK(api_path(Api::Anthropic, "https://h/anthropic") == "/anthropic/v1/messages");
  CHECK(api_path(Api::OpenAi, "http://localhost:11434/v1") == "/v1/chat/completions");
  CHECK(api_path(Api::OpenAi, "https://h/v1beta/openai/") == "/v1beta/openai/chat/completions");
  CHECK(api_path(Api::OpenAi, "https://h/vault?api-version=1") == "/vault/v1/chat/completions?api-version=1");
  CHECK(api_path(Api::OpenAi, "https://h/api/v1/chat/completions") == "/api/v1/chat/completions");
}

TEST_CASE("a status of HTTP says what is to be done") {
  auto trouble = [](int status, const std::string& body = "") { return http_trouble(status, {}, body, 0).trouble; };
  for (int status : {408, 409, 429, 500, 502, 503, 504, 529}) CHECK(trouble(status) == Trouble::Transient);
  for (int status : {400, 401, 402, 403, 404, 422, 302}) CHECK(trouble(status) == Trouble::Permanent);
  CHECK(trouble(413) == Trouble::Overflow);
  CHECK(trouble(400, R"({"type":"error","error":{"type":"invalid_request_error","message":"prompt is too long: 1 > 0"}})") == Trouble::Overflow);
  CHECK(trouble(400, R"({"error":{"message":"This model's maximum context length is 8192 tokens."}})") == Trouble::Overflow);
  CHECK(trouble(400, R"({"error":{"message":"no","code":"context_length_exceeded"}})") == Trouble::Overflow);
  CHECK(trouble(400, R"({"error":{"message":"name is too long","code":"string_above_max_length"}})") == Trouble::Permanent);
}

TEST_CASE("the reason has what the provider said, clipped and without control characters") {
  std::string body = R"({"type":"error","error":{"type":"rate_limit_error","message":"slow \u001b[31mdown\n"}})";
  Failure failure = http_trouble(429, {{"Request-Id", "req_1"}}, body, 0);
  CHECK(failure.reason == "the provider answered 429: rate_limit_error: slow  [31mdown  (request req_1)");
  CHECK(failure.status == 429);
  CHECK(http_trouble(500, {}, "<html>", 0).reason == "the provider answered 500: <html>");
  CHECK(http_trouble(500, {}, R"([{"error":{"status":"INTERNAL","message":"x"}}])", 0).reason == "the provider answered 500: INTERNAL: x");
  CHECK(http_trouble(500, {}, std::string(9000, '['), 0).reason.size() < 600);
  CHECK(clipped(std::string(499, 'x') + "ä").size() == 499);
  CHECK(clipped("a\xff\x80\u0085\u202E\x7f\xed\xa0\x80") == "a??   ???");
}

TEST_CASE("retry-after is obeyed up to a minute, in milliseconds, seconds or as a date") {
  constexpr std::int64_t now = 1445412470;  // 10 s before the date below
  auto wait = [](Headers headers) { return http_trouble(429, headers, "", now).retry_after; };
  CHECK(wait({{"retry-after", "7"}}) == 7000);
  CHECK(wait({{"Retry-After", " 0.5 "}}) == 500);
  CHECK(wait({{"retry-after", "60"}}) == 60000);
  for (const char* none : {"61", "0", "-1", "soon", "", "inf", "nan", "1e999", "Wed, 21 Oct 2015 07:27:00 GMT", "Wed, 21 Oct 2015 08:28:00 GMT"})
    CHECK(wait({{"retry-after", none}}) == 0);
  CHECK(wait({{"retry-after", "Wed, 21 Oct 2015 07:28:00 GMT"}}) == 10000);
  CHECK(wait({{"retry-after-ms", "250"}, {"retry-after", "7"}}) == 250);
  CHECK(wait({{"retry-after-ms", "x"}, {"retry-after", "7"}}) == 7000);
}

TEST_CASE("x-should-retry is obeyed") {
  CHECK(http_trouble(500, {{"x-should-retry", "false"}}, "", 0).must_not_retry);
  CHECK(!worth_retrying(http_trouble(500, {{"X-Should-Retry", "false"}}, "", 0)));
  CHECK(http_trouble(404, {{"x-should-retry", "true"}}, "", 0).trouble == Trouble::Transient);
  CHECK(http_trouble(413, {{"x-should-retry", "true"}}, "", 0).trouble == Trouble::Overflow);
  CHECK(worth_retrying(http_trouble(429, {}, "", 0)));
}

TEST_CASE("what befalls a connection has its class") {
  for (const char* kind : {"connect", "tls", "eof"}) CHECK(transport_trouble(kind, "x").trouble == Trouble::Transient);
  for (const char* kind : {"idle", "first-byte", "total"}) CHECK(transport_trouble(kind, "").trouble == Trouble::Timeout);
  for (const char* kind : {"redirect", "other", "cancelled"}) CHECK(transport_trouble(kind, "").trouble == Trouble::Permanent);
  CHECK(transport_trouble("cancelled", "").must_not_retry);
}

TEST_CASE("the wait before another attempt doubles up to 8 s, less a quarter at most") {
  std::uint64_t whole[] = {500, 1000, 2000, 4000, 8000, 8000, 8000};
  for (unsigned attempt = 0; attempt < 7; ++attempt) {
    CHECK(backoff_ms(attempt, 0) == whole[attempt]);
    CHECK(backoff_ms(attempt, ~std::uint64_t{0}) == whole[attempt] - whole[attempt] / 4 + 1);
    CHECK(backoff_ms(attempt, std::uint64_t{1} << 63) == whole[attempt] - whole[attempt] / 8);
  }
  CHECK(backoff_ms(4'000'000'000, 0) == 8000);
}

namespace {

// runner-model, that says what it is given once it has been asked.
class Fake {
 public:
  Fake(int requests, std::string answer, bool stay = false) {
    int ends[2];
    REQUIRE(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) == 0);
    ours = Fd(ends[0]);
    thread_ = std::thread([this, socket = ends[1], requests, answer, stay] {
      Fd end(socket);
      model::Frames frames;
      for (int i = 0; i < requests;) {
        char bytes[4096];
        ssize_t got = ::read(end.get(), bytes, sizeof bytes);
        if (got <= 0) return;
        frames.add({bytes, static_cast<std::size_t>(got)});
        while (auto frame = frames.next()) {
          said.push_back(*frame);
          if (frame->kind != model::kBody && frame->kind != model::kCancel) continue;
          if (frame->kind == model::kCancel || !stay) ++i;
          std::string cancelled = model::frame('E', R"({"ok":false,"class":"cancelled","message":""})");
          const std::string& answers = frame->kind == model::kCancel ? cancelled : answer;
          for (char c : answers) (void)!::write(end.get(), &c, 1);
        }
      }
    });
  }
  ~Fake() { join(); }
  void join() {
    if (thread_.joinable()) thread_.join();
  }

  Fd ours;
  std::vector<model::Frame> said;

 private:
  std::thread thread_;
};

std::string status(int code, const std::string& headers = "{}") {
  return model::frame('S', R"({"status":)" + std::to_string(code) + R"(,"headers":)" + headers + "}");
}
std::string end(const std::string& kind) {
  return model::frame('E', std::string(R"({"ok":)") + (kind.empty() ? "true" : "false") + R"(,"class":")" + kind + R"(","message":"m"})");
}
const std::string kText = "data: {\"choices\":[{\"delta\":{\"content\":\"hi\"}}]}\n\n", kDone = "data: [DONE]\n\n";

std::variant<Completion, Failure> ask(Fake& fake, int cancel_fd = -1, const Progress& progress = {}) {
  HttpProvider provider({.socket = std::move(fake.ours), .api = Api::OpenAi, .base_url = "https://h", .total_ms = 5000, .cancel_fd = cancel_fd});
  return provider.generate({.model = "m"}, progress);
}
Failure failure_of(const std::string& answer) {
  Fake fake(1, answer);
  auto result = ask(fake);
  REQUIRE(std::holds_alternative<Failure>(result));
  return std::get<Failure>(result);
}

}  // namespace

TEST_CASE("a generation over runner-model tells its chunks and text and ends with a completion") {
  Fake fake(1, status(200) + model::frame('D', kText) + model::frame('D', kDone) + end(""));
  std::string text, bytes;
  auto result = ask(fake, -1, {.text = [&](std::string_view t) { text += t; }, .chunk = [&](std::uint64_t, std::string_view b) { bytes += b; }});
  CHECK(std::get<Completion>(result).stop == Stop::Done);
  CHECK(text == "hi");
  CHECK(bytes == kText + kDone);
  fake.join();
  CHECK(json::parse(fake.said.at(0).payload)["path"] == "/v1/chat/completions");
  CHECK(json::parse(fake.said.at(1).payload)["model"] == "m");
}

TEST_CASE("what the provider has said counts for more than the end of the connection") {
  Fake fake(1, status(200) + model::frame('D', kText + kDone) + end("eof"));
  CHECK(std::holds_alternative<Completion>(ask(fake)));
  CHECK(failure_of(status(200) + model::frame('D', kText) + end("eof")).trouble == Trouble::Transient);
  CHECK(failure_of(status(200) + model::frame('D', kText) + end("")).trouble == Trouble::Transient);
  CHECK(failure_of(status(200) + model::frame('D', kText) + end("idle")).trouble == Trouble::Timeout);
  Failure busy = failure_of(status(429, R"({"retry-after":"2"})") + model::frame('D', "{\"error\":{\"message\":\"slow\"}}") + end("eof"));
  CHECK(busy.retry_after == 2000);
  CHECK(busy.reason == "the provider answered 429: slow");
  CHECK(failure_of(status(302) + end("redirect")).status == 302);
}

TEST_CASE("a runner-model that dies or talks nonsense is a transient failure") {
  std::string too_large = "D\xff\xff\xff\x7f", died = status(200) + model::frame('D', kText), wrong = R"({"status":"x"})";
  for (std::string answer : {std::string(), died, too_large, model::frame('x', ""), model::frame('S', "{"), model::frame('S', wrong)}) {
    Failure failure = failure_of(answer);
    CHECK(failure.trouble == Trouble::Transient);
    CHECK(has(failure.reason, "runner-model"));
  }
}

TEST_CASE("a body that does not end after its last word is cancelled, and counts") {
  Fake fake(1, status(200) + model::frame('D', kText + kDone), true);
  CHECK(std::holds_alternative<Completion>(ask(fake)));
  fake.join();
  CHECK(fake.said.back().kind == model::kCancel);
}

TEST_CASE("a generation is given up when its descriptor says so") {
  auto [in, out] = isolate::sys::make_pipe();
  REQUIRE(::write(out.get(), "x", 1) == 1);
  Fake fake(1, status(200) + model::frame('D', kText), true);
  auto result = ask(fake, in.get());
  CHECK(has(std::get<Failure>(result).reason, "cancelled"));
  CHECK(std::get<Failure>(result).must_not_retry);
}

TEST_CASE("a server that does not know max_completion_tokens is asked again with max_tokens") {
  Fake fake(2, status(400) + model::frame('D', R"({"error":{"message":"Unknown field: max_completion_tokens"}})") + end(""));
  ask(fake);
  fake.join();
  REQUIRE(fake.said.size() == 4);
  CHECK(json::parse(fake.said[1].payload).contains("max_completion_tokens"));
  CHECK(json::parse(fake.said[3].payload).contains("max_tokens"));
}
