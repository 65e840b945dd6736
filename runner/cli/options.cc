#include "runner/cli/options.h"

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>

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

namespace {

// Whether an argument may mean one of these names ("-v,--volume"): CLI11 takes 3 µs for each option that it is told of.
bool may_mean(const std::string& argument, const std::string& names) {
  for (std::size_t at = 0; at < names.size();) {
    std::size_t end = std::min(names.find(',', at), names.size());
    std::string name = names.substr(at, end - at);
    bool is_short = name.size() == 2;  // may stand in a group: -it
    if (is_short ? argument[0] == '-' && argument[1] != '-' && argument.find(name[1]) != std::string::npos
                 : argument == name || argument.rfind(name + "=", 0) == 0)
      return true;
    at = end + 1;
  }
  return false;
}

// Go's programs take "-no-subreaper" for "--no-subreaper", and containerd writes it so.
bool means_long(const std::string& argument, const std::string& names) {
  if (argument.size() < 3 || argument[0] != '-' || argument[1] == '-') return false;
  std::string name = ",-" + argument.substr(0, argument.find('=')) + ",";
  return ("," + names + ",").find(name) != std::string::npos;
}

}  // namespace

std::vector<std::string> Options::parse(std::vector<std::string> arguments, bool stop_at_first) const {
  for (std::string& argument : arguments) {
    if (stop_at_first && argument[0] != '-') break;  // what follows is another program's
    if (std::any_of(specs_.begin(), specs_.end(), [&](const Spec& spec) { return means_long(argument, spec.names); })) argument.insert(0, "-");
  }
  CLI::App app(usage_, "runner " + verb_);
  app.allow_extras(true);
  if (stop_at_first) app.prefix_command();
  bool help = std::any_of(arguments.begin(), arguments.end(), [](const std::string& a) { return may_mean(a, "-h,--help"); });
  for (const Spec& spec : specs_) {
    auto means_it = [&](const std::string& a) { return a.size() > 1 && may_mean(a, spec.names); };
    if (!help && std::none_of(arguments.begin(), arguments.end(), means_it)) continue;
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
