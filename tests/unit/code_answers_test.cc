// What an interpreter may say on its channel, and all that is none of it.
#include <doctest/doctest.h>

#include "runner/code/answers.h"

using namespace runner::code;

namespace {

std::string why_bad(std::string_view line) {
  try {
    parse_answer(line);
  } catch (const BadAnswer& error) {
    return error.what();
  }
  return "";
}

std::string done(const std::string& rest) { return R"({"done":"7","dropped":0,)" + rest + "}"; }

}  // namespace

TEST_SUITE("code answers") {
  TEST_CASE("a context is ready") {
    CHECK(std::get<Ready>(parse_answer(R"({"ready":"7","language":"python","version":"3.11.2","cells":4})")) ==
          Ready{"7", "python", "3.11.2", 4});
  }

  TEST_CASE("a cell is done, with its results as they stand and their texts") {
    Done ok = std::get<Done>(
        parse_answer(done(R"("status":"ok","results":[{"text/html":"<b>é","text/plain":"a"},{"text/plain":"b"}])")));
    CHECK(ok.status == Status::Ok);
    CHECK(ok.results == R"([{"text/html":"<b>\u00e9","text/plain":"a"},{"text/plain":"b"}])");
    CHECK(ok.texts == std::vector<std::string>{"a", "b"});
    Done bad = std::get<Done>(
        parse_answer(done(R"("status":"error","results":[],"error":{"name":"E","message":"m","traceback":"t"})")));
    CHECK(bad.error->name == "E");
  }

  TEST_CASE("all else is refused with a reason") {
    const std::string deep = std::string(50'000, '[') + std::string(50'000, ']');
    for (const std::string& line :
         {std::string(), std::string("x"), std::string("[]"), std::string("{}"), std::string("\xff"),
          std::string(10, '\0'), std::string(R"({"ready":7,"language":"","version":"","cells":0})"),
          std::string(R"({"ready":"7","language":"","version":"","cells":-1})"), done(R"("status":"ok")"),
          done(R"("status":"fine","results":[])"), done(R"("status":"ok","results":{})"),
          done(R"("status":"ok","results":[1])"), done(R"("status":"ok","results":[{"text/html":1}])"),
          done(R"("status":"error","results":[])"), done(R"("status":"error","results":[],"error":[])"),
          done(R"("status":"ok","results":[],"error":{"name":"","message":"","traceback":""})"),
          done(R"("status":"ok","results":[{"application/json":)" + deep + "}]")})
      CHECK_MESSAGE(why_bad(line) != "", line.substr(0, 100));
    CHECK(why_bad(deep) == "lists or objects more than 100 deep within each other");
    std::string many = "[";
    for (std::size_t i = 0; i <= 257; ++i) many += "{},";
    CHECK(why_bad(done(R"("status":"ok","results":)" + many + "{}]")) == "no list of at most 256 results");
  }

  TEST_CASE("lines are cut wherever they arrive in pieces, and one without an end is known") {
    Lines lines;
    lines.add("a\nb");
    CHECK(lines.next() == "a");
    CHECK(lines.next() == std::nullopt);
    lines.add("c\n\nd");
    CHECK(lines.next() == "bc");
    CHECK(lines.next() == "");
    CHECK(lines.next() == std::nullopt);
    CHECK_FALSE(lines.too_long());
    lines.add(std::string(kLongestAnswer, 'x'));
    CHECK(lines.next() == std::nullopt);
    CHECK(lines.too_long());
    lines.forget();
    lines.add("tail\nnew\n");
    CHECK(lines.next() == "tail");
    CHECK(lines.next() == "new");
  }
}
