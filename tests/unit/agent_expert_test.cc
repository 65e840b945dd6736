// Expert files: what one may say, what it may not, and that every mistake is named with its place.
#include <doctest/doctest.h>

#include <string>
#include <vector>

#include "runner/agent/expert.h"

using namespace runner;
using namespace runner::agent;

namespace {

using Lines = std::vector<std::string>;

Lines complaints_of_file(const std::string& text) {
  Diagnostics wrong;
  auto file = read_experts("e.toml", text, wrong);
  CHECK(file.has_value() == wrong.empty());
  return wrong.entries();
}

std::string one(const Lines& all) {
  CHECK_MESSAGE(all.size() <= 1, all.back());
  return all.empty() ? "" : all.front();
}

// Line 1 is "schema = 1"; lines 3 and 4 are an expert.
const std::string kSchema = "schema = 1\n";
const std::string kExpert = "[experts.lead]\ninstruction = \"Lead.\"\n";

/// Of what stands at the top, on line 2.
std::string top(const std::string& text) { return one(complaints_of_file(kSchema + text + "\n" + kExpert)); }
/// Of what an expert says, from line 4 on.
std::string in_expert(const std::string& text) { return one(complaints_of_file(kSchema + kExpert + text)); }
/// Of what a skill says, from line 5 on.
std::string in_mcp(const std::string& text) {
  return in_expert("[experts.lead.skills.files]\ntype = \"mcpStdioSkill\"\ncommand = \"c\"\n" + text);
}

ExpertFile file_of(const std::string& text) {
  Diagnostics wrong;
  auto file = read_experts("/srv/job/experts.toml", text, wrong);
  REQUIRE_MESSAGE(file, wrong.text());
  return *file;
}

// Two experts of these lines, the second of which begins on line 4 + those of the first.
std::string experts(const Lines& bodies) {
  std::string text = kSchema;
  char name = 'a';
  for (const std::string& body : bodies) text += std::string("[experts.") + name++ + "]\ninstruction = \"x\"\n" + body;
  return text;
}

const char* kExample = R"toml(schema = 1
model = "claude-sonnet-4-5"
max_steps = 100            # also accepted: maxSteps, maxRetries, timeout (camelCase as in existing files)
max_retries = 5
timeout = "5m"             # per generation; a bare number is milliseconds

[provider]
name = "anthropic"         # anthropic | openai (any compatible server) | replay | script
base_url = "https://api.anthropic.com"

[limits]                   # of a job: steps, tokens, money, wall
wall = "30m"
[prices."claude-sonnet-4-5"]   # micro-units a million tokens, given by the caller
input = 3000000
output = 15000000

[experts."code-reviewer"]
version = "1.0.0"
description = "Reviews code for security problems. Give a file path."   # shown to experts that delegate to it
instruction = """
You are a code reviewer who looks at security first. Report each weakness with its severity.
"""                                                                      # required, private system text, at most 20 KiB
delegates = ["security-analyst"]
policy = "default"         # the sandbox policy of this expert; a delegate's may only be narrower than its caller's
approve = ["exec"]         # these tools wait for a person
max_parallel = 4           # delegates at once
isolation = "shared"       # or "fork": each delegate in a fork of the session

[experts."code-reviewer".skills."files"]
type = "mcpStdioSkill"     # an MCP server started inside the sandbox
command = "mcp-server-filesystem"   # must be in the rootfs or exposed: a sandbox has no network unless the policy opens one
args = ["/workspace"]
requiredEnv = []           # the only variables it gets; a missing one is an error before anything starts
pick = []                  # tool allow list;  omit = [] removes first
rule = "Prefer read_text_file."
limits = {memory = "512M", pids = 64}

[experts."code-reviewer".skills."ask"]
type = "interactiveSkill"  # tools whose answer comes from a person
[experts."code-reviewer".skills."ask".tools."approve_fix"]
kind = "confirm"           # confirm | input | choose
description = "Ask before changing a file."
inputJsonSchema = '{"type":"object","properties":{"summary":{"type":"string"}},"required":["summary"]}'

[experts."security-analyst"]
description = "Knows weaknesses."
instruction = "You know weaknesses."
)toml";

}  // namespace

// ---- what a file may say -------------------------------------------------------------------------------------------

TEST_CASE("the example of an expert file reaches every field") {
  ExpertFile file = file_of(kExample);
  CHECK(file.model == "claude-sonnet-4-5");
  CHECK(file.max_steps == 100);
  CHECK(file.max_retries == 5);
  CHECK(file.timeout == 300'000);
  CHECK(file.provider == ProviderChoice{"anthropic", "https://api.anthropic.com", "ANTHROPIC_API_KEY", ""});
  CHECK(file.limits == JobLimits{0, 0, 0, 1'800'000});
  CHECK(file.prices.at("claude-sonnet-4-5") == Price{3'000'000, 15'000'000, 3'000'000, 3'000'000});
  REQUIRE(file.experts.size() == 2);

  const Expert& expert = file.experts.at("code-reviewer");
  CHECK(expert.name == "code-reviewer");
  CHECK(expert.version == "1.0.0");
  CHECK(expert.description == "Reviews code for security problems. Give a file path.");
  CHECK(expert.instruction ==
        "You are a code reviewer who looks at security first. Report each weakness with its severity.\n");
  CHECK(expert.delegates == Lines{"security-analyst"});
  CHECK(expert.policy == "default");
  CHECK(expert.approve == Lines{"exec"});
  CHECK(!expert.tools);
  CHECK(expert.max_parallel == 4);
  CHECK(expert.isolation == Expert::Isolation::Shared);

  const Skill& files = expert.skills.at("files");
  CHECK(files.rule == "Prefer read_text_file.");
  const auto& mcp = std::get<McpStdioSkill>(files.is);
  CHECK(mcp.command == "mcp-server-filesystem");
  CHECK(mcp.args == Lines{"/workspace"});
  CHECK(mcp.memory == 512u << 20);
  CHECK(mcp.pids == 64);
  const auto& ask = std::get<InteractiveSkill>(expert.skills.at("ask").is).tools.at("approve_fix");
  CHECK(ask.kind == InteractiveTool::Kind::Confirm);
  CHECK(ask.description == "Ask before changing a file.");
  CHECK(ask.schema == R"({"type":"object","properties":{"summary":{"type":"string"}},"required":["summary"]})");
}

TEST_CASE("what an expert file does not say has a default") {
  ExpertFile file = file_of(kSchema + kExpert);
  CHECK(file.max_steps == 100);
  CHECK(file.max_retries == 5);
  CHECK(file.max_tokens == 8192);
  CHECK(file.timeout == 300'000);
  CHECK(file.limits == JobLimits{});
  CHECK(file.provider == ProviderChoice{"anthropic", "", "ANTHROPIC_API_KEY", ""});
}

TEST_CASE("keys in the spelling of existing files mean the same") {
  ExpertFile file = file_of(kSchema + "maxSteps = 7\nmaxRetries = 0\ntimeout = 1500\n" + kExpert);
  CHECK(file.max_steps == 7);
  CHECK(file.max_retries == 0);
  CHECK(file.timeout == 1500);
  CHECK(top("max_steps = 1\nmaxSteps = 1") ==
        "e.toml:3:1: max_steps and maxSteps are two spellings of one key; remove one");
  CHECK(top("maxRetries = 1\nmax_retries = 1") ==
        "e.toml:3:1: max_retries and maxRetries are two spellings of one key; remove one");
}

TEST_CASE("each provider has its own variable for the key, and those that ask nobody have none") {
  auto provider = [](const std::string& text) {
    return file_of(kSchema + "[provider]\n" + text + "\n" + kExpert).provider;
  };
  CHECK(provider("name = 'openai'").key_env == "OPENAI_API_KEY");
  CHECK(provider("name = 'openai'\nkey_env = 'MY_KEY'\nbase_url = 'http://127.0.0.1:8080/v1'").key_env == "MY_KEY");
  CHECK(provider("name = 'replay'").key_env == "");
  CHECK(provider("name = 'script'\nfile = 'answers.json'") ==
        ProviderChoice{"script", "", "", "/srv/job/answers.json"});
  CHECK(provider("name = 'script'\nfile = '/tmp/a.json'").file == "/tmp/a.json");
}

TEST_CASE("the options of a model become JSON") {
  ExpertFile file = file_of(
      kSchema + "[options.'m-1']\ntemperature = 0.5\nstop = ['a', 1, true]\nthinking = {type = \"adaptive\"}\n" +
      kExpert);
  CHECK(file.options.at("m-1") == R"({"stop":["a",1,true],"temperature":0.5,"thinking":{"type":"adaptive"}})");
}

TEST_CASE("an expert may have a model, a number of tokens and fewer built-in tools of its own") {
  Expert expert =
      file_of(kSchema + kExpert + "model = 'm'\nmax_tokens = 5\ntools = ['exec', 'stat']\nisolation = 'fork'\n")
          .experts.at("lead");
  CHECK(expert.model == "m");
  CHECK(expert.max_tokens == 5);
  CHECK(expert.tools == Lines{"exec", "stat"});
  CHECK(expert.isolation == Expert::Isolation::Fork);
}

TEST_CASE("a skill may pick tools and omit some") {
  CHECK(in_mcp("pick = ['a', 'b']\nomit = ['b']\nrequiredEnv = ['GITHUB_TOKEN']\nargs = ['-v', '-v']\n") == "");
}

// ---- what it may not -----------------------------------------------------------------------------------------------

TEST_CASE("the schema of an expert file is required, and must be 1") {
  CHECK(one(complaints_of_file(kExpert)) == "e.toml:1:1: schema is missing; an expert file begins with 'schema = 1'");
  CHECK(one(complaints_of_file("schema = 2\n" + kExpert)) == "e.toml:1:10: schema must be 1, not 2");
  CHECK(one(complaints_of_file("schema = '1'\n" + kExpert)) == "e.toml:1:10: schema must be 1, not '1'");
  CHECK(one(complaints_of_file(kSchema)) ==
        "e.toml:1:1: there is no expert; add [experts.\"NAME\"] with an instruction");
}

TEST_CASE("an unknown key of an expert file is an error, and the nearest known one is suggested") {
  CHECK(top("mdel = 'x'") == "e.toml:2:1: unknown key 'mdel', did you mean 'model'?");
  CHECK(top("[banana]") == "e.toml:2:2: unknown key 'banana'");
  CHECK(top("[limits]\nstep = 1") == "e.toml:3:1: unknown key 'step' in limits, did you mean 'steps'?");
  CHECK(top("[provider]\nurl = 1") == "e.toml:3:1: unknown key 'url' in provider");
  CHECK(in_expert("delegate = []\n") ==
        "e.toml:4:1: unknown key 'delegate' in expert 'lead', did you mean 'delegates'?");
  CHECK(in_mcp("required_env = []\n") ==
        "e.toml:7:1: unknown key 'required_env' in skill 'files', did you mean 'requiredEnv'?");
  CHECK(in_mcp("limits = {cpus = 1}\n") == "e.toml:7:11: unknown key 'cpus' in the limits of skill 'files'");
}

TEST_CASE("a value of the wrong type is told what it should be, and where it stands") {
  CHECK(top("model = 5") == "e.toml:2:9: model must be text, not 5");
  CHECK(top("model = 'a b'") == "e.toml:2:9: model must be the name of a model, not 'a b'");
  CHECK(top("max_steps = 'many'") == "e.toml:2:13: max_steps must be a whole number from 1 to 1000000, not 'many'");
  CHECK(top("maxSteps = 0") == "e.toml:2:12: maxSteps must be a whole number from 1 to 1000000, not 0");
  CHECK(top("max_retries = -1") == "e.toml:2:15: max_retries must be a whole number from 0 to 100, not -1");
  CHECK(top("max_tokens = 1.5") == "e.toml:2:14: max_tokens must be a whole number from 1 to 10000000, not 1.5");
  CHECK(top("provider = 'openai'") == "e.toml:2:12: provider must be a table, not 'openai'");
  CHECK(top("prices = {m = 5}") == "e.toml:2:15: the price of a model must be a table, not 5");
  CHECK(top("options = {m = 5}") == "e.toml:2:16: the options of a model must be a table, not 5");
  CHECK(one(complaints_of_file(kSchema + "experts = 5\n")) == "e.toml:2:11: experts must be a table, not 5");
  CHECK(one(complaints_of_file(kSchema + "[experts]\nlead = 5\n")) ==
        "e.toml:3:8: expert 'lead' must be a table, not 5");
  CHECK(in_expert("delegates = 'a'\n") == "e.toml:4:13: delegates must be a list of texts, not 'a'");
  CHECK(in_expert("approve = [1979-05-27]\n") == "e.toml:4:12: approve must hold texts only, not a date or a time");
  CHECK(in_expert("approve = ['exec', 'stat', 'exec']\n") ==
        "e.toml:4:28: 'exec' is in approve twice, first on line 4");
  CHECK(in_expert("isolation = 'vm'\n") == "e.toml:4:13: isolation must be one of shared, fork, not 'vm'");
  CHECK(in_expert("max_parallel = 65\n") == "e.toml:4:16: max_parallel must be a whole number from 1 to 64, not 65");
  CHECK(in_expert("policy = 'a b'\n") == "e.toml:4:10: policy must be the name or the path of a policy, not 'a b'");
  CHECK(in_expert("skills = 5\n") == "e.toml:4:10: skills in expert 'lead' must be a table, not 5");
  CHECK(in_expert("skills.a = 5\n") == "e.toml:4:12: skill 'a' must be a table, not 5");
}

TEST_CASE("a time in an expert file has a unit, or is a number of milliseconds") {
  CHECK(top("timeout = '300'") ==
        "e.toml:2:11: timeout must be a time such as \"5m\", or a number of milliseconds, not '300'");
  CHECK(top("timeout = 0") == "e.toml:2:11: timeout must be a time such as \"5m\", or a number of milliseconds, not 0");
  CHECK(top("timeout = '25h'") == "e.toml:2:11: timeout '25h' is too long; the most is 24h");
  CHECK(top("[limits]\nwall = -5") ==
        "e.toml:3:8: wall must be a time such as \"5m\", or a number of milliseconds, not -5");
  CHECK(top("[limits]\nwall = '721h'") == "e.toml:3:8: wall '721h' is too long; the most is 720h");
}

TEST_CASE("limits and prices of a job are counted in whole numbers") {
  CHECK(top("[limits]\nsteps = 0") == "e.toml:3:9: steps must be a whole number from 1 to 1000000, not 0");
  CHECK(top("[limits]\nmoney = 0.5") ==
        "e.toml:3:9: money must be a whole number from 1 to 9223372036854775807, not 0.5");
  CHECK(top("[prices.m]\ninput = -1\noutput = 1") ==
        "e.toml:3:9: input must be a whole number from 0 to 9223372036854775807, not -1");
  CHECK(top("[prices.m]\ninput = 1") == "e.toml:2:9: the price of 'm' has no output");
}

TEST_CASE("a limit of money needs a price for each model that the file names") {
  std::string prices = "[limits]\nmoney = 5\n[prices.m]\ninput = 1\noutput = 1";
  CHECK(top("model = 'm'\n" + prices) == "");
  CHECK(top("model = 'n'\n" + prices) ==
        "e.toml:2:9: limits has money, and the model 'n' has no price: add [prices.\"n\"]");
  CHECK(one(complaints_of_file(kSchema + prices + "\n" + kExpert + "model = 'n'\n")) ==
        "e.toml:9:9: limits has money, and the model 'n' has no price: add [prices.\"n\"]");
}

TEST_CASE("a provider is told what it cannot have") {
  CHECK(top("[provider]\nname = 'gemini'") ==
        "e.toml:3:8: name must be one of anthropic, openai, replay, script, not 'gemini'");
  CHECK(top("[provider]\nname = 'replay'\nkey_env = 'A'") ==
        "e.toml:4:1: provider replay has no key_env: it asks nobody");
  CHECK(top("[provider]\nfile = 'a'") == "e.toml:3:1: provider anthropic has no file: that is for script and replay");
  CHECK(top("[provider]\nkey_env = 'A-B'") == "e.toml:3:11: key_env must be the name of a variable, not 'A-B'");
  for (const char* url : {"ftp://a", "https://", "https://key@host", "https://a/?key=x", "https://a b"})
    CHECK(top(fmt::format("[provider]\nbase_url = '{}'", url)) ==
          fmt::format(
              "e.toml:3:12: base_url must be such as https://api.example.com, without a name or a key in it, not '{}'",
              url));
}

TEST_CASE("an option must have a counterpart in JSON, and may not be what the loop writes") {
  CHECK(top("[options.m]\na = [{b = 1979-05-27}]") ==
        "e.toml:3:11: a date or a time cannot be an option: JSON has none; write it as text");
  CHECK(top("[options.m]\na = inf") == "e.toml:3:5: inf cannot be an option: JSON has no such number");
  CHECK(top("[options.m]\nstream = false") ==
        "e.toml:3:1: stream may not be an option of 'm': the agent loop writes it");
}

TEST_CASE("an expert has an instruction of at most 20 KiB") {
  CHECK(one(complaints_of_file(kSchema + "[experts.lead]\n")) == "e.toml:2:10: expert 'lead' has no instruction");
  CHECK(one(complaints_of_file(kSchema + "[experts.lead]\ninstruction = ' '\n")) ==
        "e.toml:3:15: the instruction of 'lead' is empty");
  auto with = [](std::size_t bytes) {
    return kSchema + "[experts.lead]\ninstruction = '" + std::string(bytes, 'x') + "'\n";
  };
  CHECK(complaints_of_file(with(20480)).empty());
  CHECK(one(complaints_of_file(with(20481))) ==
        "e.toml:3:15: the instruction of 'lead' has 20481 bytes; the most is 20480");
}

TEST_CASE("names that a model is told are letters, digits, '-' and '_'") {
  auto said = [](const char* place, const char* name, const char* what) {
    return fmt::format("e.toml:{}: '{}' cannot be the name of {}; 1 to 64 letters, digits, '-' and '_' can", place,
                       name, what);
  };
  CHECK(one(complaints_of_file(kSchema + "[experts.'a b']\ninstruction = 'x'\n")) == said("2:10", "a b", "an expert"));
  std::string longest(64, 'x');
  CHECK(complaints_of_file(kSchema + "[experts." + longest + "]\ninstruction = 'x'\n").empty());
  CHECK(complaints_of_file(kSchema + "[experts." + longest + "x]\ninstruction = 'x'\n").size() == 1);
  CHECK(in_expert("[experts.lead.skills.'']\ntype = 'mcpStdioSkill'\ncommand = 'c'\n") == said("4:22", "", "a skill"));
  CHECK(in_expert("[experts.lead.skills.ask]\ntype = 'interactiveSkill'\n[experts.lead.skills.ask.tools.'a.b']\nkind = "
                  "'input'\ndescription = 'x'\n") == said("6:32", "a.b", "a tool"));
  CHECK(in_mcp("pick = ['ä']\n") == said("7:9", "ä", "a tool"));
  CHECK(in_mcp("omit = ['']\n") == said("7:9", "", "a tool"));
  CHECK(in_mcp("[experts.lead2]\ninstruction='x'\napprove = ['a b']\n") == said("9:12", "a b", "a tool"));
}

TEST_CASE("a skill has a type, and what that needs") {
  CHECK(in_expert("[experts.lead.skills.a]\n") ==
        "e.toml:4:22: skill 'a' has no type; it is one of mcpStdioSkill, interactiveSkill");
  CHECK(in_expert("[experts.lead.skills.a]\ntype = 'mcpSseSkill'\n") ==
        "e.toml:5:8: type must be one of mcpStdioSkill, interactiveSkill, not 'mcpSseSkill'");
  CHECK(in_expert("[experts.lead.skills.a]\ntype = 'mcpStdioSkill'\n") == "e.toml:4:22: skill 'a' has no command");
  CHECK(in_expert("[experts.lead.skills.a]\ntype = 'mcpStdioSkill'\ncommand = ''\n") ==
        "e.toml:6:11: the command of skill 'a' is empty");
  CHECK(in_expert("[experts.lead.skills.a]\ntype = 'interactiveSkill'\n") ==
        "e.toml:4:22: skill 'a' has no tool; add [experts.\"lead\".skills.\"a\".tools.\"NAME\"]");
  CHECK(in_expert("[experts.lead.skills.a]\ntype = 'interactiveSkill'\ncommand = 'c'\ntools = {t = {kind = 'input', "
                  "description = 'x'}}\n") == "e.toml:6:1: unknown key 'command' in skill 'a'");
}

TEST_CASE("the limits of a skill are read as a policy's are") {
  CHECK(in_mcp("limits = {memory = 'lots'}\n") == "e.toml:7:20: memory must be a size such as 512M, not 'lots'");
  CHECK(in_mcp("limits = {memory = '1K'}\n") == "e.toml:7:20: memory 1K is out of range; it is 4M to 1024T");
  CHECK(in_mcp("limits = {pids = 0}\n") == "e.toml:7:18: pids must be a whole number from 1 to 4194304, not 0");
  CHECK(in_mcp("limits = 5\n") == "e.toml:7:10: limits in skill 'files' must be a table, not 5");
}

TEST_CASE("a skill may not ask for variables that make a program load another's code, nor for the model's key") {
  for (const char* name :
       {"PATH", "HOME", "LANG", "TERM", "LD_PRELOAD", "LD_X", "NODE_OPTIONS", "PYTHONPATH", "PERL5LIB", "RUBYLIB"})
    CHECK(in_mcp(fmt::format("requiredEnv = ['{}']\n", name)) ==
          fmt::format("e.toml:7:16: requiredEnv may not hold {}: the runner sets it, or nobody does", name));
  CHECK(in_mcp("requiredEnv = ['LDX', 'PATHS']\n") == "");
  CHECK(in_mcp("requiredEnv = ['A=B']\n") == "e.toml:7:16: requiredEnv must hold names of variables, not 'A=B'");
  CHECK(in_mcp("requiredEnv = ['ANTHROPIC_API_KEY']\n") ==
        "e.toml:7:16: requiredEnv may not hold ANTHROPIC_API_KEY: it is the key of the model, which never enters a "
        "sandbox");
}

TEST_CASE("an interactive tool has a kind, a description and a schema that is an object") {
  auto tool = [](const std::string& text) {
    return in_expert("[experts.lead.skills.ask]\ntype = 'interactiveSkill'\n[experts.lead.skills.ask.tools.q]\n" +
                     text);
  };
  CHECK(tool("description = 'x'\n") == "e.toml:6:32: tool 'q' has no kind; it is one of confirm, input, choose");
  CHECK(tool("kind = 'yes'\ndescription = 'x'\n") ==
        "e.toml:7:8: kind must be one of confirm, input, choose, not 'yes'");
  CHECK(tool("kind = 'input'\n") == "e.toml:6:32: tool 'q' has no description, by which the model knows when to ask");
  std::string start = "kind = 'input'\ndescription = 'x'\ninputJsonSchema = '";
  std::string said = "e.toml:9:19: the inputJsonSchema of tool 'q' ";
  CHECK(tool(start + "{'\n").starts_with(said + "is no JSON: line 1, column 2: syntax error"));
  CHECK(tool(start + "[]'\n") == said + "must be a JSON object, not an array");
  CHECK(tool(start + "{}'\n") == said + R"(must have "type": "object": the arguments of a tool are an object)");
  CHECK(tool(start + R"({"type":"object","type":"object"}')"
                     "\n") == said + "has the key 'type' twice in one object");
  auto nested = [](int depth) {
    std::string text = R"({"type":"object","x":)";
    for (int i = 1; i < depth; ++i) text += "[";
    for (int i = 1; i < depth; ++i) text += "]";
    return text + "}'\n";
  };
  CHECK(tool(start + nested(32)) == "");
  CHECK(tool(start + nested(33)) == said + "is nested deeper than 32 levels");
}

// ---- what experts say about each other -----------------------------------------------------------------------------

TEST_CASE("a delegate must be an expert of the file") {
  CHECK(one(complaints_of_file(experts({"delegates = ['nobody']\n", ""}))) ==
        "e.toml:4:14: there is no expert 'nobody' in this file");
  CHECK(
      one(complaints_of_file(kSchema + kExpert + "delegates = ['analist']\n[experts.analyst]\ninstruction = 'x'\n")) ==
      "e.toml:4:14: there is no expert 'analist', did you mean 'analyst'?");
}

TEST_CASE("experts that delegate in a circle are named in its order") {
  CHECK(one(complaints_of_file(experts({"delegates = ['b']\n", "delegates = ['a']\n"}))) ==
        "e.toml:7:14: experts delegate in a circle: a -> b -> a");
  CHECK(one(complaints_of_file(experts({"delegates = ['a']\n"}))) ==
        "e.toml:4:14: experts delegate in a circle: a -> a");
  CHECK(one(complaints_of_file(experts({"delegates = ['b']\n", "delegates = ['c']\n", "delegates = ['d', 'b']\n",
                                        ""}))) == "e.toml:10:19: experts delegate in a circle: b -> c -> b");
  // Two ways to the same expert are none.
  CHECK(complaints_of_file(experts({"delegates = ['b', 'c']\n", "delegates = ['d']\n", "delegates = ['d']\n", ""}))
            .empty());
}

TEST_CASE("no two tools of an expert have the same name") {
  std::string ask =
      "[experts.a.skills.ask]\ntype = 'interactiveSkill'\n[experts.a.skills.ask.tools.b]\nkind = 'input'\ndescription "
      "= 'x'\n";
  CHECK(one(complaints_of_file(experts({"delegates = ['b']\n" + ask, ""}))) ==
        "e.toml:7:29: expert 'a' has two tools called 'b': a delegate and an interactive tool");
  CHECK(one(complaints_of_file(kSchema + kExpert + "delegates = ['exec']\n[experts.exec]\ninstruction = 'x'\n")) ==
        "e.toml:4:14: expert 'lead' has two tools called 'exec': a built-in tool and a delegate");
  std::string second = ask;
  second.replace(second.find("skills.ask]"), 10, "skills.two");
  second.replace(second.find("skills.ask.tools"), 10, "skills.two");
  CHECK(one(complaints_of_file(experts({ask + second}))) ==
        "e.toml:11:29: expert 'a' has two tools called 'b': an interactive tool and an interactive tool");
}

TEST_CASE("approve names tools that there can be") {
  CHECK(in_expert("approve = ['exec_']\n") ==
        "e.toml:4:12: approve names 'exec_', which is no tool of expert 'lead', did you mean 'exec'?");
  CHECK(in_expert("approve = ['deploy']\n") ==
        "e.toml:4:12: approve names 'deploy', which is no tool of expert 'lead'");
  CHECK(in_expert("tools = ['stat']\napprove = ['delete']\n") ==
        "e.toml:5:12: approve names 'delete', which is no tool of expert 'lead'");
  CHECK(complaints_of_file(experts({"approve = ['b']\ndelegates = ['b']\n", ""})).empty());
  // What an MCP server has is not known yet.
  CHECK(in_expert("approve = ['deploy']\n[experts.lead.skills.x]\ntype = 'mcpStdioSkill'\ncommand = 'c'\n") == "");
}

TEST_CASE("tools are built-in ones") {
  CHECK(in_expert("tools = ['bash']\n") ==
        "e.toml:4:10: 'bash' is no built-in tool; there are append_file, complete, delete, edit_file, exec, list_dir, "
        "make_dir, move, read_file, "
        "stat, todo, write_file");
}

TEST_CASE("an expert that works in its caller's session cannot have another policy") {
  CHECK(one(complaints_of_file(experts({"delegates = ['b']\npolicy = 'default'\n", "policy = 'strict'\n"}))) ==
        "e.toml:8:10: expert 'b' cannot have policy 'strict': it works in the session of 'a'; remove it, or give 'a' "
        "isolation = \"fork\"");
  CHECK(complaints_of_file(experts({"delegates = ['b']\npolicy = 'default'\n", "policy = 'default'\n"})).empty());
  CHECK(complaints_of_file(
            experts({"delegates = ['b']\npolicy = 'default'\nisolation = 'fork'\n", "policy = 'strict'\n"}))
            .empty());
}

// ---- text that is no expert file -----------------------------------------------------------------------------------

TEST_CASE("all mistakes of an expert file are reported at once, in its order") {
  CHECK(complaints_of_file("schema = 3\n"
                           "mdel = 'x'\n"
                           "timeout = 'soon'\n"
                           "[provider]\n"
                           "name = 'gemini'\n"
                           "[limits]\n"
                           "steps = 'few'\n"
                           "[experts.lead]\n"
                           "delegates = ['nobody', 'aide']\n"
                           "[experts.'no name']\n"
                           "instruction = 'x'\n"
                           "[experts.aide]\n"
                           "instruction = 'x'\n"
                           "approve = ['fly']\n"
                           "delegates = ['lead']\n"
                           "[experts.aide.skills.s]\n"
                           "type = 'sse'\n") ==
        Lines{"e.toml:1:10: schema must be 1, not 3", "e.toml:2:1: unknown key 'mdel', did you mean 'model'?",
              "e.toml:3:11: timeout must be a time such as \"5m\", or a number of milliseconds, not 'soon'",
              "e.toml:5:8: name must be one of anthropic, openai, replay, script, not 'gemini'",
              "e.toml:7:9: steps must be a whole number from 1 to 1000000, not 'few'",
              "e.toml:8:10: expert 'lead' has no instruction", "e.toml:9:14: there is no expert 'nobody' in this file",
              "e.toml:9:24: experts delegate in a circle: aide -> lead -> aide",
              "e.toml:10:10: 'no name' cannot be the name of an expert; 1 to 64 letters, digits, '-' and '_' can",
              "e.toml:14:12: approve names 'fly', which is no tool of expert 'aide'",
              "e.toml:17:8: type must be one of mcpStdioSkill, interactiveSkill, not 'sse'"});
}
