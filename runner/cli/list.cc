#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "runner/cli/container.h"

namespace runner::cli {

int list_main(Context& context) {
  std::string format = "table";
  bool quiet = false;
  Options options("list", "List containers and sessions.");
  options.value("-f,--format", format, "table or json");
  options.flag("-q,--quiet", quiet, "ids only");
  if (!context.parse(options).empty()) throw UsageError("list: takes no arguments");
  if (format != "table" && format != "json") throw UsageError(fmt::format("--format: '{}' is neither table nor json", format));

  auto all = nlohmann::ordered_json::array();
  for (const std::string& id : session::list_entries(context.directories())) {
    auto entry = session::Entry::find(context.directories(), id);
    session::State state;
    try {
      if (!entry) continue;
      state = entry->read_state();
    } catch (const std::exception&) {
      continue;  // being made, or being removed
    }
    session::Status status = session::status_of(state, context.cgroups());
    pid_t pid = status == session::Status::Stopped ? 0 : state.pid;
    all.push_back(nlohmann::ordered_json::parse(state_json(state, session::status_name(status), pid)));
  }
  if (quiet) {
    for (const auto& one : all) fmt::print("{}\n", one["id"].get<std::string>());
  } else if (format == "json") {
    fmt::print("{}\n", all.dump());
  } else {
    fmt::print("{:<24} {:<10} {:<10} {:<40} {:<28} {}\n", "ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER");
    for (const auto& one : all)
      fmt::print("{:<24} {:<10} {:<10} {:<40} {:<28} {}\n", one["id"].get<std::string>(), one["pid"].get<int>(),
                 one["status"].get<std::string>(), one["bundle"].get<std::string>(), one["created"].get<std::string>(),
                 one["owner"].get<std::string>());
  }
  return 0;
}

}  // namespace runner::cli
