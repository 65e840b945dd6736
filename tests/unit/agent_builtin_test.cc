// The built-in tools, what is said to a model whose arguments do not fit, and the lock of MCP servers.
#include <doctest/doctest.h>

#include <algorithm>
#include <string>
#include <vector>

#include "runner/agent/builtin.h"
#include "runner/agent/lock.h"

using namespace runner;
using namespace runner::agent;

namespace {

using Lines = std::vector<std::string>;

std::string said(const std::string& schema, const std::string& arguments) {
  return check_arguments(schema, arguments).value_or("");
}

std::string said_by(const std::string& tool, const std::string& arguments) {
  for (const ToolDefinition& definition : builtin_tools())
    if (definition.name == tool) return said(definition.schema, arguments);
  FAIL("no such tool");
  return "";
}

/// Of a property x with this schema.
std::string said_of(const std::string& property, const std::string& value) {
  return said(R"({"properties":{"x":)" + property + "}}", R"({"x":)" + value + "}");
}

std::string nested(char open, char close, int depth) { return std::string(depth, open) + std::string(depth, close); }

McpStdioSkill files() {
  McpStdioSkill skill;
  skill.command = "server";
  skill.args = {"/workspace"};
  skill.required_env = {"A", "B"};
  return skill;
}

const ToolDefinition kGrep = {"grep", "Finds \"text\".",
                              R"({"type": "object", "properties": {"q": {"type": "string"}}})"};
const ToolDefinition kRead = {"read", "Reads.", R"({"type":"object"})"};

Lock lock_of(const LockedSkill& skill) {
  Lock lock;
  lock.experts["lead"]["files"] = skill;
  return lock;
}

ExpertFile file_with(const McpStdioSkill& skill) {
  ExpertFile file;
  file.experts["lead"].skills["files"] = {"", "", skill};
  return file;
}

Lines lock_complaints(const std::string& text) {
  Diagnostics wrong;
  auto lock = read_lock("experts.lock", text, wrong);
  CHECK(lock.has_value() == wrong.empty());
  return wrong.entries();
}

std::string replaced(std::string text, const std::string& from, const std::string& to) {
  std::size_t at = text.find(from);
  REQUIRE(at != std::string::npos);
  return text.replace(at, from.size(), to);
}

}  // namespace

// ---- built-in tools ------------------------------------------------------------------------------------------------

TEST_CASE("the built-in tools are sorted by name, and each has a schema that may be sent") {
  std::vector<ToolDefinition> tools = builtin_tools();
  CHECK(builtin_names() == Lines{"append_file", "complete", "delete", "edit_file", "exec", "list_dir", "make_dir",
                                 "move", "read_file", "stat", "todo", "write_file"});
  REQUIRE(tools.size() == builtin_names().size());
  CHECK(std::ranges::is_sorted(tools, {}, &ToolDefinition::name));
  for (const ToolDefinition& tool : tools) {
    CHECK_MESSAGE(!wrong_with_schema(tool.schema), tool.name);
    CHECK_MESSAGE(tool.schema.find('\n') == std::string::npos, tool.name);
    CHECK_MESSAGE(!tool.description.empty(), tool.name);
    CHECK(is_builtin(tool.name));
    CHECK_MESSAGE(said(tool.schema, R"({"another":1})") != "", tool.name);
  }
  CHECK(!is_builtin("bash"));
}

TEST_CASE("an expert with few built-in tools can still end its work") {
  std::vector<ToolDefinition> tools = builtin_tools(Lines{"stat", "exec"});
  REQUIRE(tools.size() == 3);
  CHECK(tools[0].name == "complete");
  CHECK(tools[1].name == "exec");
  CHECK(tools[2].name == "stat");
  CHECK(builtin_tools(Lines{}).size() == 1);
}

TEST_CASE("only tools that change nothing are read-only") {
  for (const std::string& name : builtin_names())
    CHECK(read_only(name) == (name == "read_file" || name == "list_dir" || name == "stat"));
  CHECK(!read_only("grep"));
}

TEST_CASE("each built-in tool takes its arguments, and no others") {
  CHECK(said_by("exec", R"({"argv":["ls"],"cwd":"/workspace","env":{"A":"b"},"timeout_ms":1000})") == "");
  CHECK(said_by("exec", "{}") == "argv is missing");
  CHECK(said_by("exec", R"({"argv":[]})") == "argv must have at least 1 items, not 0");
  CHECK(said_by("exec", R"({"argv":"ls -l"})") == "argv must be an array, not 'ls -l'");
  CHECK(said_by("exec", R"({"argv":["ls",5]})") == "argv[1] must be a string, not 5");
  CHECK(said_by("exec", R"({"argv":["ls"],"env":{"A":1}})") == "env.A must be a string, not 1");
  CHECK(said_by("exec", R"({"argv":["ls"],"timeout_ms":0})") == "timeout_ms must be at least 1, not 0");
  CHECK(said_by("exec", R"({"argv":["ls"],"timeout_ms":1e300})") == "timeout_ms must be an integer, not 1e+300");
  CHECK(said_by("exec", R"({"argv":["ls"],"shell":true})") ==
        "there is no argument 'shell'; there are argv, cwd, env, timeout_ms");
  CHECK(said_by("read_file", R"({"path":"a","offset":0,"limit":2})") == "");
  CHECK(said_by("write_file", R"({"path":"a","content":"b"})") == "");
  CHECK(said_by("edit_file", R"({"path":"a","old":"b","new":"c","all":true})") == "");
  CHECK(said_by("append_file", R"({"path":"a","content":"b"})") == "");
  CHECK(said_by("list_dir", R"({"path":"a","recursive":true})") == "");
  CHECK(said_by("list_dir", "{}") == "");
  CHECK(said_by("stat", R"({"path":"a"})") == "");
  CHECK(said_by("move", R"({"from":"a","to":"b"})") == "");
  CHECK(said_by("delete", R"({"path":"a","recursive":false})") == "");
  CHECK(said_by("make_dir", R"({"path":"a"})") == "");
  CHECK(said_by("todo", R"({"items":[]})") == "");
  CHECK(said_by("todo", R"({"items":[{"text":"a","done":false}]})") == "");
  CHECK(said_by("todo", R"({"items":[{"text":"a"}]})") == "items[0].done is missing");
  CHECK(said_by("complete", R"({"result":"done"})") == "");
}

// ---- arguments -----------------------------------------------------------------------------------------------------

TEST_CASE("arguments are a JSON object") {
  CHECK(said("{}", "{}") == "");
  CHECK(said("{}", "[]") == "the arguments must be an object, not an array");
  CHECK(said("{}", "").starts_with("the text of the arguments is no JSON: line 1, column 1"));
  CHECK(said("{}", R"({"a":1)").starts_with("the text of the arguments is no JSON: line 1, column 7"));
  CHECK(said("{}", "{\"a\":\"\xff\"}").starts_with("the text of the arguments is no JSON: "));
  CHECK(said("{}", R"({"a":1e999})").starts_with("the text of the arguments is no JSON: "));
  CHECK(said("{}", R"({"a":1,"a":2})") == "the text of the arguments has the key 'a' twice in one object");
  CHECK(said("{}", R"({"a":)" + nested('[', ']', 63) + "}") == "");
  CHECK(said("{}", R"({"a":)" + nested('[', ']', 64) + "}") ==
        "the text of the arguments is nested deeper than 64 levels");
  CHECK(said("{}", std::string(1'000'000, '[')) == "the text of the arguments is nested deeper than 64 levels");
}

TEST_CASE("the type of an argument is checked") {
  for (const char* good :
       {R"("string" "a")", R"("number" 1.5)", R"("integer" 5)", R"("integer" 5.0)", R"("boolean" true)",
        R"("null" null)", R"("object" {})", R"("array" [])", R"(["string","null"] null)", R"("nonsense" 1)"}) {
    std::string text = good;
    std::size_t blank = text.find(' ');
    CHECK_MESSAGE(said_of(R"({"type":)" + text.substr(0, blank) + "}", text.substr(blank + 1)) == "", good);
  }
  CHECK(said_of(R"({"type":"integer"})", "1.5") == "x must be an integer, not 1.5");
  CHECK(said_of(R"({"type":["string","null"]})", "true") == "x must be a string or null, not true");
  CHECK(said_of(R"({"type":"object"})", "null") == "x must be an object, not null");
  CHECK(said_of(R"({"type":"string"})", "{}") == "x must be a string, not an object");
}

TEST_CASE("what an argument may be is checked") {
  CHECK(said_of(R"({"enum":["a",1,null]})", "1") == "");
  CHECK(said_of(R"({"enum":["a",1,null]})", R"("b")") == "x must be one of 'a', 1, null, not 'b'");
  CHECK(said_of(R"({"minimum":1,"maximum":2.5})", "2") == "");
  CHECK(said_of(R"({"maximum":2.5})", "3") == "x must be at most 2.5, not 3");
  CHECK(said_of(R"({"minimum":18446744073709551615})", "-1") == "x must be at least 18446744073709551615, not -1");
  CHECK(said_of(R"({"items":{"type":"string"},"minItems":2})", R"(["a"])") == "x must have at least 2 items, not 1");
  CHECK(said_of(R"({"items":{"items":{"type":"string"}}})", R"([[],["a",5]])") == "x[1][1] must be a string, not 5");
  CHECK(said_of(R"({"required":["y"]})", "{}") == "x.y is missing");
  CHECK(said_of(R"({"additionalProperties":false})", R"({"y":1})") == "x has no property 'y'; there is none");
}

TEST_CASE("what a schema says beyond that is the server's to check") {
  CHECK(said_of(R"({"pattern":"a","$ref":"http://evil.example/x","anyOf":[false],"format":"uri"})", R"("b")") == "");
  for (const char* schema : {"", "5", "[]", "{\"type\":5,\"required\":5,\"properties\":5,\"enum\":5}",
                             "{\"properties\":{\"x\":5},\"required\":[5]}", "{\"type\":[]}", "{\"type\":\"\"}",
                             "{\"minItems\":\"a\",\"minimum\":\"a\"}"})
    CHECK_MESSAGE(said(schema, R"({"x":1})") == "", schema);
}

// ---- experts.lock --------------------------------------------------------------------------------------------------

TEST_CASE("a lock is read as it was written") {
  Lock lock = lock_of(lock_skill(files(), Era::Legacy, {kRead, kGrep}));
  Diagnostics wrong;
  auto read = read_lock("experts.lock", write_lock(lock), wrong);
  REQUIRE_MESSAGE(read, wrong.text());
  CHECK(write_lock(*read) == write_lock(lock));
  const LockedSkill& skill = read->experts.at("lead").at("files");
  CHECK(skill.era == Era::Legacy);
  REQUIRE(skill.tools.size() == 2);
  CHECK(skill.tools[0].definition.name == "grep");
  CHECK(skill.tools[0].definition.description == kGrep.description);
  CHECK(drift(*read, file_with(files())).empty());
  CHECK(drift(skill, "files", Era::Legacy, {kGrep, kRead}).empty());
}

TEST_CASE("digests do not depend on order where order says nothing") {
  McpStdioSkill other = files();
  std::ranges::reverse(other.required_env);
  CHECK(skill_digest(other) == skill_digest(files()));
  other.args = {"server", "/workspace"};
  CHECK(skill_digest(other) != skill_digest(files()));
  ToolDefinition grep = kGrep;
  grep.schema = R"({"properties":{"q":{"type":"string"}},"type":"object"})";
  CHECK(tool_digest(grep) == tool_digest(kGrep));
  grep.name = "grepp";
  CHECK(tool_digest(grep) != tool_digest(kGrep));
  grep.schema = "no \xff JSON";
  CHECK(tool_digest(grep).size() == 64);
}

TEST_CASE("what is different from the lock is told in sentences") {
  Lock lock = lock_of(lock_skill(files(), Era::Modern, {kGrep, kRead}));
  McpStdioSkill other = files();
  other.args.push_back("--write");
  ExpertFile file = file_with(other);
  file.experts["lead"].skills["more"] = {"", "", files()};
  lock.experts["gone"]["x"] = {};
  CHECK(
      drift(lock, file) ==
      Lines{
          "skill 'files' of expert 'lead' has another command, other arguments or another requiredEnv than in the lock",
          "skill 'more' of expert 'lead' is not in the lock",
          "the lock has a skill 'x' of expert 'gone' that the expert file has not"});

  ToolDefinition grep = kGrep, write = {"write", "Writes.", R"({"type":"object"})"};
  grep.description = "Finds, and sends what it finds.";
  const LockedSkill& skill = lock.experts["lead"]["files"];
  CHECK(drift(skill, "files", Era::Legacy, {grep, write}) ==
        Lines{"the server of skill 'files' speaks the legacy protocol, not the modern one of the lock",
              "the tool 'grep' of skill 'files' has another description", "skill 'files' has a new tool 'write'",
              "skill 'files' has no tool 'read' any more"});
  grep = kGrep;
  grep.schema = R"({"type":"object"})";
  CHECK(drift(skill, "files", Era::Modern, {grep, kRead}) ==
        Lines{"the tool 'grep' of skill 'files' has another schema"});
}

TEST_CASE("a lock that was changed by hand is refused") {
  std::string text = write_lock(lock_of(lock_skill(files(), Era::Modern, {kGrep, kRead})));
  CHECK(lock_complaints(replaced(text, "Reads.", "Reads all.")) ==
        Lines{"experts.lock: experts.lead.files.tools[1].digest: is not that of the tool beside it: one of them was "
              "changed"});
}

TEST_CASE("all mistakes of a lock are told at once") {
  CHECK(lock_complaints("{").front().starts_with("experts.lock: is no JSON: line 1, column 2"));
  CHECK(lock_complaints("[]") == Lines{"experts.lock: must be an object"});
  CHECK(lock_complaints("{}") ==
        Lines{"experts.lock: version: must be 1, not null", "experts.lock: experts: is missing; it must be an object"});
  CHECK(lock_complaints(R"({"version":1,"version":1})") ==
        Lines{"experts.lock: has the key 'version' twice in one object"});
  CHECK(
      lock_complaints(
          R"({"version":2,"more":1,"experts":{"lead":{"a":5,"b":{"digest":"x","era":"old","tools":[{"name":"a b","hint":1},5]}}}})") ==
      Lines{"experts.lock: unknown key 'more'", "experts.lock: version: must be 1, not 2",
            "experts.lock: experts.lead.a: must be an object",
            "experts.lock: experts.lead.b.digest: must be a SHA-256 of 64 digits, not 'x'",
            "experts.lock: experts.lead.b.era: must be modern or legacy, not 'old'",
            "experts.lock: experts.lead.b.tools[0]: unknown key 'hint'",
            "experts.lock: experts.lead.b.tools[0].name: 'a b' cannot be the name of a tool",
            "experts.lock: experts.lead.b.tools[0].description: is missing; it must be text",
            "experts.lock: experts.lead.b.tools[0].schema: is missing; it must be an object",
            "experts.lock: experts.lead.b.tools[0].digest: is missing; it must be text",
            "experts.lock: experts.lead.b.tools[1]: must be an object"});
  std::string twice = write_lock(lock_of(lock_skill(files(), Era::Modern, {kRead, kRead})));
  CHECK(lock_complaints(twice) ==
        Lines{"experts.lock: experts.lead.files.tools[1]: there are two tools called 'read'"});
}
