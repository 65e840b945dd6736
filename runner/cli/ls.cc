// ls: the sessions, for people and schedulers. `list` is runc's.
#include <fmt/format.h>
#include <time.h>

#include <nlohmann/json.hpp>
#include <optional>
#include <regex>

#include "runner/cli/sessions.h"
#include "runner/cli/table.h"
#include "runner/session/time.h"

namespace runner::cli {

namespace {

using json = nlohmann::ordered_json;

constexpr const char* kStatusWords[] = {"running", "paused", "stopped"};

// --filter, given any number of times: all must hold.
struct Filters {
  std::vector<std::pair<std::string, std::optional<std::string>>> labels;  // without a value: that it is there
  std::vector<std::string> statuses;                                       // any of them
  std::vector<std::regex> names;                                           // any of them, found anywhere in the id

  bool hold(const session::State& state, const std::string& status) const {
    for (const auto& [key, value] : labels) {
      auto label = state.annotations.find(key);
      if (label == state.annotations.end() || (value && label->second != *value)) return false;
    }
    auto found = [&](const std::regex& name) { return std::regex_search(state.id, name); };
    return (statuses.empty() || std::find(statuses.begin(), statuses.end(), status) != statuses.end()) &&
           (names.empty() || std::any_of(names.begin(), names.end(), found));
  }
};

void read_filter(const std::string& text, Filters& filters) {
  std::size_t equals = text.find('=');
  std::string key = text.substr(0, equals), value = equals == std::string::npos ? "" : text.substr(equals + 1);
  if (equals == std::string::npos || value.empty() || (key != "label" && key != "status" && key != "name"))
    throw UsageError(
        fmt::format("--filter: '{}' is none of label=NAME[=VALUE], status=STATUS, name=PATTERN", shown(text)));
  if (key == "label") {
    std::size_t second = value.find('=');
    if (second == std::string::npos)
      filters.labels.emplace_back(value, std::nullopt);
    else
      filters.labels.emplace_back(value.substr(0, second), value.substr(second + 1));
  } else if (key == "status") {
    if (std::find(std::begin(kStatusWords), std::end(kStatusWords), value) == std::end(kStatusWords))
      throw UsageError(fmt::format("--filter: status '{}' is none of running, paused, stopped", shown(value)));
    filters.statuses.push_back(value);
  } else {
    try {
      filters.names.emplace_back(value, std::regex::extended);
    } catch (const std::regex_error&) {
      throw UsageError(fmt::format("--filter: name '{}' is no regular expression", shown(value)));
    }
  }
}

json describe(const session::State& state, const std::string& status) {
  json j{{"id", state.id},
         {"status", status},
         {"pid", nullptr},
         {"created", state.created},
         {"policy", nullptr},
         {"command", state.command},
         {"labels", state.annotations},
         {"cgroup", nullptr},
         {"result", nullptr},
         {"exit_code", nullptr}};
  bool lives = status == "running" || status == "paused";
  if (lives) j["pid"] = state.pid;
  if (lives && !state.cgroup.empty()) j["cgroup"] = state.cgroup;
  if (!state.policy.empty()) j["policy"] = state.policy;
  if (!state.result.empty()) j["result"] = state.result;
  if (state.ended && state.exit_code >= 0) j["exit_code"] = state.exit_code;
  return j;
}

Row row_of(const session::State& state, const std::string& status) {
  auto created = session::parse_rfc3339(state.created);
  std::string result = state.result;
  if (state.ended && state.exit_code >= 0) result += fmt::format(" ({})", state.exit_code);
  return {state.id,
          status,
          status == "running" || status == "paused" ? std::to_string(state.pid) : "-",
          created ? human_time(::time(nullptr) - *created) : "-",
          state.policy.empty() ? "-" : state.policy,
          result.empty() ? "-" : result,
          human_command(state.command, 60)};
}

}  // namespace

int ls_main(Context& context) {
  bool all = false, quiet = false;
  std::string format;
  std::vector<std::string> wishes;
  Options options("ls", "List the sessions that run: a table on a terminal, else JSON lines.");
  options.flag("-a,--all", all, "also those that have ended");
  options.flag("-q,--quiet", quiet, "ids only");
  options.value("-f,--format", format, "table or json (one object a line)");
  options.values("--filter", wishes,
                 "label=NAME[=VALUE], status=STATUS or name=PATTERN; of several labels all must hold");
  if (auto rest = context.parse(options); !rest.empty())
    throw UsageError(fmt::format("ls: takes no arguments, not '{}'", shown(rest[0])));
  bool as_table = wants_table(format);
  Filters filters;
  for (const std::string& wish : wishes) read_filter(wish, filters);
  if (std::find(filters.statuses.begin(), filters.statuses.end(), "stopped") != filters.statuses.end()) all = true;

  std::vector<Row> rows{{"ID", "STATUS", "PID", "AGE", "POLICY", "RESULT", "COMMAND"}};
  std::string text;
  for (const Found& found : all_sessions(context)) {
    std::string status = status_of(context, found.state);
    if ((!all && status == "stopped") || !filters.hold(found.state, status)) continue;
    if (quiet)
      text += found.state.id + "\n";
    else if (as_table)
      rows.push_back(row_of(found.state, status));
    else
      text += describe(found.state, status).dump(-1, ' ', true, json::error_handler_t::replace) + "\n";
  }
  fmt::print("{}", as_table && !quiet ? table(rows) : text);
  return 0;
}

}  // namespace runner::cli
