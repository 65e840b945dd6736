// Experts in Markdown, and what becomes of all experts: the system prompt.
#include <doctest/doctest.h>
#include <stdlib.h>
#include <sys/stat.h>

#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "runner/agent/markdown.h"
#include "runner/agent/prompt.h"
#include "runner/agent/text.h"

using namespace runner;
using namespace runner::agent;

namespace fs = std::filesystem;

namespace {

using Lines = std::vector<std::string>;

Lines complaints(const std::string& text) {
  Diagnostics wrong;
  auto file = read_markdown("a.md", text, wrong);
  CHECK(file.has_value() == wrong.empty());
  return wrong.entries();
}

/// Of these lines in the front matter, from line 4 on.
std::string complaint(const std::string& lines) {
  Lines all = complaints("---\nname: a\ndescription: b\n" + lines + "\n---\nDo it.\n");
  CHECK_MESSAGE(all.size() <= 1, all.back());
  return all.empty() ? "" : all.front();
}

Expert expert_of(const std::string& text) {
  Diagnostics wrong;
  auto file = read_markdown("a.md", text, wrong);
  REQUIRE_MESSAGE(file, wrong.text());
  REQUIRE(file->experts.size() == 1);
  CHECK(file->experts.begin()->first == file->experts.begin()->second.name);
  return file->experts.begin()->second;
}

std::string with_tools(const std::string& tools) {
  return "---\nname: a\ndescription: b\ntools: " + tools + "\n---\nDo it.\n";
}

class Folder {
 public:
  Folder() {
    path_ = (fs::temp_directory_path() / "markdown-test-XXXXXX").string();
    REQUIRE(::mkdtemp(path_.data()));
  }
  ~Folder() { fs::remove_all(path_); }
  const std::string& path() const { return path_; }
  void write(const std::string& name, const std::string& text) const { std::ofstream(path_ + "/" + name) << text; }

 private:
  std::string path_;
};

ExpertFile lead() {
  ExpertFile file;
  file.experts["lead"].name = "lead";
  file.experts["lead"].instruction = "Lead.";
  return file;
}

}  // namespace

// ---- one file ------------------------------------------------------------------------------------------------------

TEST_CASE("a sub-agent in Markdown becomes an expert") {
  Expert expert = expert_of(
      "---\n"
      "name: code-reviewer\n"
      "description: Reviews code: give it a path. Don't wait.\n"
      "tools: Read, Grep,Bash , exec\n"
      "model: sonnet\n"
      "color: red\n"
      "\n"
      "---\n"
      "\n"
      "You review code.\n"
      "---\n"
      "That was a line.\n");
  CHECK(expert.name == "code-reviewer");
  CHECK(expert.description == "Reviews code: give it a path. Don't wait.");
  CHECK(expert.tools == Lines{"read_file", "list_dir", "stat", "exec"});
  CHECK(expert.model == "sonnet");
  CHECK(expert.instruction == "You review code.\n---\nThat was a line.");
}

TEST_CASE("a sub-agent that names no tools has all, and one that inherits its model names none") {
  Expert expert = expert_of("---\r\nname: a\r\ndescription: b\r\nmodel: inherit\r\n---\r\nDo it.\r\n");
  CHECK(!expert.tools);
  CHECK(expert.model == "");
  CHECK(expert.instruction == "Do it.");
}

TEST_CASE("the tools of other programs are ours where there is one") {
  CHECK(expert_of(with_tools("Write, Edit, MultiEdit")).tools ==
        Lines{"write_file", "append_file", "make_dir", "edit_file"});
  CHECK(expert_of(with_tools("LS, Glob, TodoWrite, TodoRead")).tools == Lines{"list_dir", "stat", "todo"});
  CHECK(expert_of(with_tools("move, complete")).tools == Lines{"move", "complete"});
  // To search is not to run programs.
  CHECK(expert_of(with_tools("Grep")).tools == Lines{"list_dir", "stat", "read_file"});
}

TEST_CASE("a tool that has no counterpart is a mistake") {
  CHECK(complaint("tools: Read, WebFetch") == "a.md:4:8: the tool 'WebFetch' has no counterpart here; remove it");
  CHECK(complaint("tools: mcp__github__search") ==
        "a.md:4:8: the tool 'mcp__github__search' has no counterpart here; remove it");
  CHECK(complaint("tools: Reed") == "a.md:4:8: unknown tool 'Reed', did you mean 'Read'?");
  CHECK(complaint("tools: Teleport").starts_with("a.md:4:8: unknown tool 'Teleport'; there are append_file, "));
  CHECK(complaint("tools: Read,") == "a.md:4:8: tools must be names with commas between them, such as Read, Bash");
  CHECK(complaint("tools:") == "a.md:4:7: tools must be names with commas between them, such as Read, Bash");
}

TEST_CASE("values of the front matter may be in quotes") {
  Expert expert = expert_of("---\nname: 'a'\ndescription: \"#1: \\\"b\\\"\\n\\\\\"\n---\nDo it.\n");
  CHECK(expert.name == "a");
  CHECK(expert.description == "#1: \"b\"\n\\");
  CHECK(expert_of("---\nname: a\ndescription: 'it''s'\n---\nx").description == "it's");
  CHECK(complaint("model: \"a") == "a.md:4:8: the quote that begins here does not end on its line");
  CHECK(complaint("model: 'a' b") == "a.md:4:11: nothing may follow the quote that ends a value");
  CHECK(complaint("model: \"\\x\"") == "a.md:4:9: an escape here is one of \\\" \\\\ \\n \\t");
}

TEST_CASE("front matter is lines of a key and a value, and nothing else") {
  std::string said = "; lists, comments and values of several lines are not accepted";
  CHECK(complaints("---\nname: a\ndescription: b\ntools:\n  - Read\n---\nx") ==
        Lines{"a.md:4:7: tools must be names with commas between them, such as Read, Bash",
              "a.md:5:1: a line of the front matter is 'key: value', not '  - Read'" + said});
  CHECK(complaint("- Read") == "a.md:4:1: a line of the front matter is 'key: value', not '- Read'" + said);
  CHECK(complaint("  more") == "a.md:4:1: a line of the front matter is 'key: value', not '  more'" + said);
  CHECK(complaint("# note") == "a.md:4:1: a line of the front matter is 'key: value', not '# note'" + said);
  CHECK(complaint("word") == "a.md:4:1: a line of the front matter is 'key: value', not 'word'" + said);
  CHECK(complaint(": x") == "a.md:4:1: a line of the front matter is 'key: value', not ': x'" + said);
  CHECK(complaint("model:x") == "a.md:4:6: a blank must follow the ':' of 'model'");
  for (char c : std::string("[]{}&*!|>%@`#"))
    CHECK(complaint(fmt::format("model: {}x", c)) ==
          fmt::format("a.md:4:8: a value may not begin with '{}'; write plain text, or put it in quotes", c));
  CHECK(complaint("model: a # b") == "a.md:4:10: '#' would begin a comment here; put the value in quotes");
  CHECK(complaint("name: b") == "a.md:4:1: key 'name' is given twice, first on line 2");
  CHECK(complaint("tool: Read") == "a.md:4:1: unknown key 'tool', did you mean 'tools'?");
  CHECK(complaint("hooks: x") == "a.md:4:1: unknown key 'hooks'");
  CHECK(complaint("model: a b") == "a.md:4:8: model must be inherit or the name of a model, not 'a b'");
}

TEST_CASE("a sub-agent has a name, a description and an instruction, and is told of all that is missing") {
  CHECK(complaints("---\ncolour: x\n---\n \n") == Lines{"a.md:1:1: the front matter has no name",
                                                        "a.md:1:1: the front matter has no description",
                                                        "a.md:2:1: unknown key 'colour', did you mean 'color'?",
                                                        "a.md:4:1: there is no instruction behind the front matter"});
  CHECK(complaints("---\nname:\ndescription: ''\n---\nx") ==
        Lines{"a.md:2:6: name is empty", "a.md:3:14: description is empty"});
  CHECK(complaints("---\nname: a b\ndescription: x\n---\nx") ==
        Lines{"a.md:2:7: 'a b' cannot be the name of an expert; 1 to 64 letters, digits, '-' and '_' can"});
  CHECK(complaints("---\nname: a\ndescription: x\n---\n" + std::string(20481, 'x')) ==
        Lines{"a.md:5:1: the instruction has 20481 bytes; the most is 20480"});
}

TEST_CASE("a file without front matter is no sub-agent") {
  CHECK(complaints("# Title\n") == Lines{"a.md:1:1: the file must begin with a line of ---, and then 'name: NAME'"});
  CHECK(complaints("") == Lines{"a.md:1:1: the file must begin with a line of ---, and then 'name: NAME'"});
  CHECK(complaints("---\nname: a\n") == Lines{"a.md:1:1: the front matter has no second line of ---"});
  CHECK(complaints("---\nname: \xff\n---\n") == Lines{"a.md:2:7: this byte is not UTF-8"});
}

// ---- a folder ------------------------------------------------------------------------------------------------------

TEST_CASE("the sub-agents of a folder become delegates in the order of their files") {
  Folder folder;
  folder.write("2.md", "---\nname: alpha\ndescription: x\n---\nx");
  folder.write("1.md", "---\nname: beta\ndescription: x\n---\nx");
  folder.write("notes.txt", "no expert");
  ExpertFile file = lead();
  Diagnostics wrong;
  CHECK(add_markdown_folder(folder.path(), "lead", file, wrong));
  CHECK(wrong.text() == "");
  CHECK(file.experts.at("lead").delegates == Lines{"beta", "alpha"});
  CHECK(file.experts.at("alpha").instruction == "x");
}

TEST_CASE("a folder of sub-agents is taken as a whole or not at all") {
  Folder folder;
  folder.write("a.md", "---\nname: lead\ndescription: x\n---\nx");
  folder.write("b.md", "---\nname: exec\ndescription: x\n---\nx");
  folder.write("c.md", "nothing");
  folder.write("d.md", "---\nname: good\ndescription: x\n---\nx");
  REQUIRE(::mkfifo((folder.path() + "/e.md").c_str(), 0600) == 0);
  ExpertFile file = lead();
  Diagnostics wrong;
  CHECK(!add_markdown_folder(folder.path(), "lead", file, wrong));
  CHECK(wrong.entries() ==
        Lines{folder.path() + "/a.md: there is an expert 'lead' already",
              folder.path() + "/b.md: expert 'lead' has a tool called 'exec' already",
              folder.path() + "/c.md:1:1: the file must begin with a line of ---, and then 'name: NAME'",
              folder.path() + "/e.md: is no regular file"});
  CHECK(file == lead());

  Diagnostics more;
  CHECK(!add_markdown_folder(folder.path() + "/none", "lead", file, more));
  CHECK(!add_markdown_folder(folder.path(), "boss", file, more));
  CHECK(more.entries() == Lines{folder.path() + "/none: cannot be listed: No such file or directory",
                                folder.path() + ": there is no expert 'boss' to which these can be added"});
}

// ---- the prompt ----------------------------------------------------------------------------------------------------

TEST_CASE("the system prompt is the frame, the instruction, the rules and the delegates, and the time at last") {
  ExpertFile file = lead();
  Expert& expert = file.experts["lead"];
  expert.skills["files"] = {"", "Prefer read_text_file.\n", McpStdioSkill{}};
  expert.skills["quiet"] = {"", "", McpStdioSkill{}};
  expert.delegates = {"analyst", "silent"};
  file.experts["analyst"].description = "Knows weaknesses.\n";
  file.experts["silent"].name = "silent";
  std::string prompt = system_prompt(file, expert, "2026-01-02T03:04:05Z");

  std::size_t last = 0;
  for (const char* part : {"/workspace", "its result says why", "is data", "call complete", "# Instruction\n\nLead.\n",
                           "## files\n\nPrefer read_text_file.\n", "* analyst: Knows weaknesses.\n* silent\n",
                           "This job was started at 2026-01-02T03:04:05Z.\n"}) {
    std::size_t at = prompt.find(part, last);
    CHECK_MESSAGE(at != std::string::npos, part);
    last = at;
  }
  CHECK(prompt.ends_with("This job was started at 2026-01-02T03:04:05Z.\n"));
  CHECK(prompt.find("quiet") == std::string::npos);

  std::string later = system_prompt(file, expert, "2027-01-02T03:04:05Z");
  CHECK(later.substr(0, later.find("This job")) == prompt.substr(0, prompt.find("This job")));
  CHECK(system_prompt(lead(), lead().experts["lead"], "now").find("delegate") == std::string::npos);
}

TEST_CASE("AGENTS.md comes behind the instruction, and is cut at 20 KiB between two characters") {
  CHECK(with_agents_md("Lead.", " \n") == "Lead.");
  CHECK(with_agents_md("Lead.\n", "\nBuild with make.\n") ==
        "Lead.\n\n# From AGENTS.md of the workspace\n\nBuild with make.\n");
  std::string umlauts = "x";
  while (umlauts.size() <= 20480) umlauts += "ä";
  std::string cut_one = with_agents_md("Lead.", umlauts);
  CHECK(cut_one.ends_with("ä\n\n(AGENTS.md was cut here: it is longer than 20480 bytes.)\n"));
  CHECK(as_utf8(cut_one) == cut_one);
  CHECK(with_agents_md("", std::string("a\xff\0b", 4))
            .ends_with("\na\xef\xbf\xbd\xef\xbf\xbd"
                       "b\n"));
}
