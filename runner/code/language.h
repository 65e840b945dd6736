// The languages of contexts: the sandbox's own interpreters, with a driver of ours that is sent to them (protocol.md).
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace runner::code {

struct Language {
  const char* name;
  const char* program;  // looked up in the PATH of the sandbox
  const char* flag;     // behind which it takes a program as an argument
  const char* boot;     // that program: reads the driver from descriptor 3
  const char* driver;
  std::vector<std::string> env;

  std::vector<std::string> argv() const { return {program, flag, boot}; }
};

/// Null when there is none of that name.
const Language* find_language(std::string_view name);
/// For messages: "python or javascript".
std::string language_names();

}  // namespace runner::code
