#include "runner/agent/builtin.h"

#include <algorithm>
#include <array>

namespace runner::agent {

namespace {

struct Tool {
  const char *name, *description, *schema;
};

// Sorted by name. A number has a maximum, so that whoever reads it may take it for 64 bits.
constexpr std::array kTools = {
    Tool{"append_file",
         "Adds text to the end of a file; makes the file if there is none, and directories that are missing.", R"({
      "type": "object", "additionalProperties": false, "required": ["path", "content"],
      "properties": {
        "path": {"type": "string", "description": "In the workspace."},
        "content": {"type": "string"}}})"},
    Tool{"complete", "Ends the work, and gives its result to who asked for it. Call it once, when all is done.", R"({
      "type": "object", "additionalProperties": false, "required": ["result"],
      "properties": {
        "result": {"type": "string", "description": "The answer, complete in itself: nothing else of this conversation is passed on."}}})"},
    Tool{"delete", "Deletes a file or an empty directory; with recursive also a directory with all that is in it.", R"({
      "type": "object", "additionalProperties": false, "required": ["path"],
      "properties": {
        "path": {"type": "string", "description": "In the workspace."},
        "recursive": {"type": "boolean", "description": "Default: false."}}})"},
    Tool{"edit_file", "Replaces text in a file. The old text must be there exactly once, unless all is true.", R"({
      "type": "object", "additionalProperties": false, "required": ["path", "old", "new"],
      "properties": {
        "path": {"type": "string", "description": "In the workspace."},
        "old": {"type": "string", "description": "Exactly as it stands in the file, blanks and line ends included."},
        "new": {"type": "string"},
        "all": {"type": "boolean", "description": "Replace each of several. Default: false."}}})"},
    Tool{"exec",
         "Runs a program and waits for it. There is no shell: argv is the program and its arguments; for a pipe run "
         "[\"sh\", \"-c\", \"...\"]. Returns exit code, signal, stdout, stderr, what was truncated, and what it used.",
         R"({
      "type": "object", "additionalProperties": false, "required": ["argv"],
      "properties": {
        "argv": {"type": "array", "items": {"type": "string"}, "minItems": 1},
        "cwd": {"type": "string", "description": "Default: /workspace."},
        "env": {"type": "object", "additionalProperties": {"type": "string"}, "description": "Variables beside those that are set."},
        "timeout_ms": {"type": "integer", "minimum": 1, "maximum": 86400000, "description": "After which it is killed. Default: 120000."}}})"},
    Tool{"list_dir", "Lists what is in a directory, with type and size.", R"({
      "type": "object", "additionalProperties": false,
      "properties": {
        "path": {"type": "string", "description": "In the workspace. Default: /workspace."},
        "recursive": {"type": "boolean", "description": "Also what is in its directories. Default: false."}}})"},
    Tool{"make_dir", "Makes a directory, and those above it that are missing.", R"({
      "type": "object", "additionalProperties": false, "required": ["path"],
      "properties": {
        "path": {"type": "string", "description": "In the workspace."}}})"},
    Tool{"move", "Moves or renames a file or a directory.", R"({
      "type": "object", "additionalProperties": false, "required": ["from", "to"],
      "properties": {
        "from": {"type": "string", "description": "In the workspace."},
        "to": {"type": "string", "description": "In the workspace."}}})"},
    Tool{"read_file", "Reads a text file, or a part of it.", R"({
      "type": "object", "additionalProperties": false, "required": ["path"],
      "properties": {
        "path": {"type": "string", "description": "In the workspace."},
        "offset": {"type": "integer", "minimum": 0, "maximum": 9007199254740992, "description": "In bytes, where to begin. Default: 0."},
        "limit": {"type": "integer", "minimum": 1, "maximum": 9007199254740992, "description": "In bytes. Default: 256 KiB; the most: 1000 KiB."}}})"},
    Tool{"stat", "Tells type, size, mode and time of change of a file or a directory.", R"({
      "type": "object", "additionalProperties": false, "required": ["path"],
      "properties": {
        "path": {"type": "string", "description": "In the workspace."}}})"},
    Tool{"todo", "Replaces the list of what is to be done. Use it for work of several steps.", R"({
      "type": "object", "additionalProperties": false, "required": ["items"],
      "properties": {
        "items": {"type": "array", "items": {
          "type": "object", "additionalProperties": false, "required": ["text", "done"],
          "properties": {"text": {"type": "string"}, "done": {"type": "boolean"}}}}}})"},
    Tool{"write_file", "Writes a file; replaces the one that is there, and makes directories that are missing.", R"({
      "type": "object", "additionalProperties": false, "required": ["path", "content"],
      "properties": {
        "path": {"type": "string", "description": "In the workspace."},
        "content": {"type": "string"}}})"},
};

// As it is sent each time: without the line breaks and blanks above, none of which stands in a text there.
std::string compact(std::string_view schema) {
  std::string result;
  bool in_text = false;
  for (char c : schema) {
    if (c == '"') in_text = !in_text;
    if (in_text || (c != ' ' && c != '\n')) result += c;
  }
  return result;
}

}  // namespace

std::vector<ToolDefinition> builtin_tools(const std::optional<std::vector<std::string>>& only) {
  std::vector<ToolDefinition> tools;
  for (const Tool& tool : kTools) {
    std::string name = tool.name;
    if (!only || name == "complete" || std::ranges::find(*only, name) != only->end())
      tools.push_back({name, tool.description, compact(tool.schema)});
  }
  return tools;
}

std::vector<std::string> builtin_names() {
  std::vector<std::string> names;
  for (const Tool& tool : kTools) names.emplace_back(tool.name);
  return names;
}

bool is_builtin(std::string_view name) {
  return std::ranges::any_of(kTools, [&](const Tool& tool) { return name == tool.name; });
}

bool read_only(std::string_view name) { return name == "read_file" || name == "list_dir" || name == "stat"; }

}  // namespace runner::agent
