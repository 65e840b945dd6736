// prune: rm for all sessions that have ended.
#include <fmt/format.h>
#include <time.h>

#include <nlohmann/json.hpp>

#include "runner/cli/sessions.h"
#include "runner/cli/table.h"
#include "runner/config/units.h"
#include "runner/session/size.h"
#include "runner/session/time.h"

namespace runner::cli {

namespace {

// One whose time nobody knows is old: it is of a version that did not write it down.
bool ended_before(const session::State& state, std::int64_t then) {
  auto when = session::parse_rfc3339(state.finished.empty() ? state.created : state.finished);
  return !when || *when <= then;
}

}  // namespace

int prune_main(Context& context) {
  std::string older, format;
  bool dry = false;
  Options options("prune", "Remove all sessions that have ended, and tell how many bytes that gave back.");
  options.value("--older", older, "only those that ended at least so long ago, such as 90s, 30m or 24h");
  options.flag("--dry-run", dry, "only tell what would be removed");
  options.value("-f,--format", format, "table or json (one object a line)");
  if (auto rest = context.parse(options); !rest.empty())
    throw UsageError(fmt::format("prune: takes no arguments, not '{}'", shown(rest[0])));
  bool as_table = wants_table(format);
  auto age = older.empty() ? 0 : parse_duration(older);
  if (!age) throw UsageError(fmt::format("--older: must be a time such as 90s, 30m or 24h, not '{}'", shown(older)));
  std::int64_t then = ::time(nullptr) - static_cast<std::int64_t>((*age + 999) / 1000);

  std::vector<Row> rows{{"ID", "BYTES"}};
  std::uint64_t count = 0, sum = 0;
  int code = 0;
  for (Found& found : all_sessions(context)) {
    const std::string& id = found.state.id;
    if (!found.state.ended || !found.state.suspended.empty() || !ended_before(found.state, then)) continue;
    code = std::max(code, for_each_id(context, {id}, [&](const std::string&) {
                      // Read again: since the list was made it may have been removed, and its name used for another one.
                      if (!lock_ended(found.entry)) return;
                      session::State state = found.entry.read_state();
                      if (!state.ended || !state.suspended.empty() || !state.is_session || !ended_before(state, then)) return;
                      std::uint64_t bytes = session::bytes_on_disk(context.directories().session_data(id)) +
                                            session::bytes_on_disk(found.entry.path());
                      if (dry)
                        found.entry.unlock();
                      else
                        remove_session(context, found.entry, state);
                      ++count, sum += bytes;
                      if (as_table)
                        rows.push_back({id, human_bytes(bytes)});
                      else
                        fmt::print("{}\n", nlohmann::ordered_json{{"id", id}, {"bytes", bytes}}.dump());
                    }));
  }
  if (as_table) fmt::print("{}", table(rows));
  std::fflush(stdout);
  fmt::print(stderr, "runner: {} session{} {}, {}\n", count, count == 1 ? "" : "s",
             dry ? "would be removed" : "removed", human_bytes(sum));
  return code;
}

}  // namespace runner::cli
