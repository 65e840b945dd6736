#include "runner/cli/options.h"

#include <fmt/format.h>

#include <CLI/CLI.hpp>

namespace runner::cli {

void Options::flag(const std::string& names, bool& to, const std::string& help) { specs_.push_back({names, help, &to}); }
void Options::value(const std::string& names, std::string& to, const std::string& help) {
  specs_.push_back({names, help, nullptr, &to});
}
void Options::values(const std::string& names, std::vector<std::string>& to, const std::string& help) {
  specs_.push_back({names, help, nullptr, nullptr, &to});
}
void Options::number(const std::string& names, int& to, const std::string& help) {
  specs_.push_back({names, help, nullptr, nullptr, nullptr, &to});
}

std::vector<std::string> Options::parse(const std::vector<std::string>& arguments, bool stop_at_first) const {
  CLI::App app(usage_, "runner " + verb_);
  app.allow_extras(true);
  if (stop_at_first) app.prefix_command();
  for (const Spec& spec : specs_) {
    if (spec.flag) app.add_flag(spec.names, *spec.flag, spec.help);
    if (spec.value) app.add_option(spec.names, *spec.value, spec.help)->type_name("TEXT");
    if (spec.values) app.add_option(spec.names, *spec.values, spec.help)->type_name("TEXT")->allow_extra_args(false);
    if (spec.number) app.add_option(spec.names, *spec.number, spec.help);
  }
  std::vector<std::string> reversed(arguments.rbegin(), arguments.rend());  // CLI11 takes a stack
  try {
    app.parse(reversed);
  } catch (const CLI::CallForHelp&) {
    throw HelpAsked(app.help());
  } catch (const CLI::Error& error) {
    throw UsageError(fmt::format("{}: {} (see `runner {} --help`)", verb_, error.what(), verb_));
  }
  std::vector<std::string> rest = app.remaining();
  for (std::size_t i = 0; i < rest.size() && !(stop_at_first && i > 0); ++i)
    if (rest[i].size() > 1 && rest[i][0] == '-' && rest[i] != "--")
      throw UsageError(fmt::format("{}: unknown flag {} (see `runner {} --help`)", verb_, rest[i], verb_));
  return rest;
}

std::string one_argument(const std::vector<std::string>& arguments, const std::string& verb, const std::string& what) {
  if (arguments.size() == 1) return arguments[0];
  throw UsageError(arguments.empty() ? fmt::format("{}: {} is missing", verb, what)
                                     : fmt::format("{}: takes one {}, not also '{}'", verb, what, arguments[1]));
}

}  // namespace runner::cli
