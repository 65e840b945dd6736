#include "runner/code/language.h"

namespace runner::code {

namespace {

// Each made by the build from the file of that name, as one string.
constexpr const char* kPythonBoot =
#include "python_boot.inc"
    ;
constexpr const char* kPython =
#include "python.inc"
    ;
constexpr const char* kJavascriptBoot =
#include "javascript_boot.inc"
    ;
constexpr const char* kJavascript =
#include "javascript.inc"
    ;

const std::vector<Language>& languages() {
  static const std::vector<Language> all{
      {"python", "python3", "-c", kPythonBoot, kPython, {"MPLBACKEND=Agg"}},  // there is no display to draw a plot on
      {"javascript", "node", "-e", kJavascriptBoot, kJavascript, {}},
  };
  return all;
}

}  // namespace

const Language* find_language(std::string_view name) {
  for (const Language& language : languages())
    if (language.name == name) return &language;
  return nullptr;
}

std::string language_names() {
  std::string names;
  for (const Language& language : languages()) names += (names.empty() ? "" : " or ") + std::string(language.name);
  return names;
}

}  // namespace runner::code
