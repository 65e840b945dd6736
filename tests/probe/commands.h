// The subcommands of the probe: the program that runs inside a sandbox and prints, as key=value lines, what it can see and reach.
//
// A file adds its own by one object: `const probe::Commands kLook{{"cwd", show_cwd, "the working directory"}};`
// Each command gets the words behind its name and returns the exit status. An attempt prints "what=0" or the errno's name.
#pragma once

#include <initializer_list>
#include <string>
#include <vector>

namespace probe {

using Words = std::vector<std::string>;

struct Command {
  const char* name;
  int (*run)(const Words& words);
  const char* help;
};

/// The table of all files, in the order in which they were linked.
std::vector<Command>& all_commands();

struct Commands {
  Commands(std::initializer_list<Command> commands) {
    for (const Command& command : commands) all_commands().push_back(command);
  }
};

/// Prints one line at once: what was found must be out before the next step kills us.
void say(const std::string& key, const std::string& value);
void say(const std::string& key, long value);
/// "0" or the name of an errno, such as EPERM: what an attempt gave.
std::string outcome(long result);
/// The n-th word as a number, or the default.
long number(const Words& words, std::size_t n, long otherwise);
std::string text_of(const char* path);  ///< of a file; empty when it cannot be read

}  // namespace probe
