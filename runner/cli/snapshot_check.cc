// `runner snapshot check`: what a snapshot would not keep, before anything is stopped.
#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "isolate/cgroup.h"
#include "runner/cli/snapshot.h"
#include "runner/cli/table.h"
#include "runner/snapshot/hazards.h"

namespace runner::cli {

int snapshot_check(Context& context) {
  std::string format;
  Options options("snapshot check", "Tell what a snapshot of a running session would keep, close or fail at; nothing is stopped.");
  options.value("-f,--format", format, "table or json (one object a line)");
  std::string id = one_argument(context.parse(options), "snapshot check");
  session::Entry entry = context.entry(id);
  isolate::Cgroup group = isolate::Cgroup::open(entry.read_state().cgroup, context.cgroups());
  bool fails = false, as_table = wants_table(format);
  std::vector<Row> rows{{"PID", "FD", "PROCESS", "WHAT", "EFFECT", "REMEDY"}};
  for (const snapshot::Hazard& each : snapshot::find_hazards(group.processes())) {
    fails = fails || each.effect == snapshot::Hazard::Effect::Fails;
    nlohmann::ordered_json fd = each.fd < 0 ? nlohmann::ordered_json() : nlohmann::ordered_json(each.fd);
    if (as_table) rows.push_back({std::to_string(each.pid), each.fd < 0 ? "-" : std::to_string(each.fd), each.process, each.what, word(each.effect), each.remedy});
    else
      fmt::print("{}\n", nlohmann::ordered_json{{"pid", each.pid}, {"fd", fd}, {"process", each.process}, {"what", each.what}, {"effect", word(each.effect)}, {"remedy", each.remedy}}.dump(
                             -1, ' ', false, nlohmann::json::error_handler_t::replace));
  }
  if (as_table) fmt::print("{}", table(rows));
  return fails ? 1 : 0;
}

}  // namespace runner::cli
