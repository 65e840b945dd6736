// The flags of one verb. CLI11 does the parsing, in options.cc, the one place that includes it.
#pragma once

#include <functional>
#include <stdexcept>
#include <string>
#include <vector>

namespace runner::cli {

/// A mistake in the command line: exit status 1, as runc has it (125 for the session verbs, as docker has it).
struct UsageError : std::runtime_error {
  using std::runtime_error::runtime_error;
};
/// --help was asked for; what() is the text.
struct HelpAsked : std::runtime_error {
  using std::runtime_error::runtime_error;
};

class Options {
 public:
  Options(std::string verb, std::string usage) : verb_(std::move(verb)), usage_(std::move(usage)) {}

  /// `names` as CLI11 has them: "-d,--detach".
  void flag(const std::string& names, bool& to, const std::string& help);
  void value(const std::string& names, std::string& to, const std::string& help);
  void values(const std::string& names, std::vector<std::string>& to, const std::string& help);
  void number(const std::string& names, int& to, const std::string& help);

  /// Returns the positional arguments. With `stop_at_first`, everything from the first one on is returned as it stands: the flags
  /// of another program. Throws UsageError and HelpAsked.
  std::vector<std::string> parse(std::vector<std::string> arguments, bool stop_at_first = false) const;

 private:
  struct Spec {
    std::string names, help;
    bool* flag = nullptr;
    std::string* value = nullptr;
    std::vector<std::string>* values = nullptr;
    int* number = nullptr;
  };
  std::string verb_, usage_;
  std::vector<Spec> specs_;
};

/// The one positional argument that a verb wants, called `what` in the message of its absence.
std::string one_argument(const std::vector<std::string>& arguments, const std::string& verb, const std::string& what = "ID");

}  // namespace runner::cli
