// volume ls|inspect|create|rm|prune: the named folders that outlive sessions.
#include <fmt/format.h>
#include <time.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "runner/cli/sessions.h"
#include "runner/cli/table.h"
#include "runner/config/units.h"
#include "runner/session/size.h"
#include "runner/session/volumes.h"

namespace runner::cli {

namespace {

using json = nlohmann::ordered_json;

// Sessions by the volumes that they use, now or, with `ended`, once.
std::vector<std::string> users_of(const std::vector<Found>& sessions, const std::string& volume, bool ended) {
  std::vector<std::string> users;
  for (const Found& found : sessions) {
    const auto& used = found.state.volumes;
    if (found.state.ended == ended && std::find(used.begin(), used.end(), volume) != used.end()) users.push_back(found.state.id);
  }
  return users;
}

session::Volume find(Context& context, const std::string& name) {
  if (std::string why = session::why_bad_id(name); !why.empty()) throw UsageError(fmt::format("volume '{}': {}", shown(name), why));
  auto volume = session::find_volume(context.directories(), name);
  if (!volume) throw std::runtime_error(fmt::format("there is no volume {} (`runner volume ls` lists them)", name));
  return *volume;
}

// What is damaged is named, and does not hide the others.
std::vector<session::Volume> all_volumes(Context& context) {
  std::vector<session::Volume> all;
  for (const std::string& name : session::list_volumes(context.directories())) {
    try {
      if (auto volume = session::find_volume(context.directories(), name)) all.push_back(std::move(*volume));
    } catch (const std::exception& error) {
      report_warning(context.globals, fmt::format("volume {}: {}", shown(name), error.what()));
    }
  }
  return all;
}

int list(Context& context) {
  bool quiet = false;
  std::string format;
  Options options("volume ls", "List volumes: a table on a terminal, else JSON lines.");
  options.flag("-q,--quiet", quiet, "names only");
  options.value("-f,--format", format, "table or json (one object a line)");
  if (auto rest = context.parse(options); !rest.empty()) throw UsageError(fmt::format("volume ls: takes no arguments, not '{}'", shown(rest[0])));
  bool as_table = wants_table(format);
  std::vector<Row> rows{{"NAME", "USED", "SESSIONS"}};
  std::vector<Found> sessions = quiet ? std::vector<Found>() : all_sessions(context);
  for (const session::Volume& volume : all_volumes(context)) {
    auto users = users_of(sessions, volume.name, false);
    if (quiet) fmt::print("{}\n", volume.name);
    else if (as_table) rows.push_back({volume.name, human_time(::time(nullptr) - volume.used), users.empty() ? "-" : fmt::format("{}", fmt::join(users, " "))});
    else fmt::print("{}\n", json{{"name", volume.name}, {"created", volume.created}, {"sessions", users}}.dump());
  }
  if (as_table && !quiet) fmt::print("{}", table(rows));
  return 0;
}

int inspect(Context& context) {
  Options options("volume inspect", "Print all that is known of volumes, as a JSON array.");
  std::vector<std::string> names = context.parse(options);
  if (names.empty()) throw UsageError("volume inspect: NAME is missing");
  std::vector<Found> sessions = all_sessions(context);
  json all = json::array();
  int code = for_each_id(context, names, [&](const std::string& name) {
    session::Volume volume = find(context, name);
    all.push_back({{"name", volume.name},
                   {"created", volume.created},
                   {"unused_seconds", std::max<std::int64_t>(0, ::time(nullptr) - volume.used)},
                   {"path", volume.data},
                   {"owner", {{"uid", volume.uid}, {"gid", volume.gid}}},
                   {"bytes", session::bytes_on_disk(volume.data)},
                   {"sessions", users_of(sessions, name, false)},
                   {"ended_sessions", users_of(sessions, name, true)}});
  });
  fmt::print("{}\n", all.dump(2));
  return code;
}

int create(Context& context) {
  Options options("volume create", "Make volumes. `run -v NAME:PATH` does so too, when there is none of that name.");
  std::vector<std::string> names = context.parse(options);
  if (names.empty()) throw UsageError("volume create: NAME is missing");
  return for_each_id(context, names, [&](const std::string& name) {
    check_id(name);
    session::VolumeLease::take(context.directories(), name);
    fmt::print("{}\n", name);
  });
}

// Asked first, so that the answer can name who uses it; the lock has the last word.
void remove(Context& context, const std::string& name, const std::vector<Found>& sessions) {
  if (auto users = users_of(sessions, name, false); !users.empty())
    throw std::runtime_error(fmt::format("volume {} is in use by session{} {}: stop it first", name, users.size() > 1 ? "s" : "", fmt::join(users, ", ")));
  if (!session::remove_volume(context.directories(), name))
    throw std::runtime_error(fmt::format("volume {} is in use by a session that is just being made, or is of another --root: try again when it has ended", name));
}

int rm(Context& context) {
  bool force = false;
  Options options("volume rm", "Remove volumes with all that is in them. One that a session uses is not removed.");
  options.flag("-f,--force", force, "a volume that does not exist is no error");
  std::vector<std::string> names = context.parse(options);
  if (names.empty()) throw UsageError("volume rm: NAME is missing");
  std::vector<Found> sessions = all_sessions(context);  // sessions whose supervisor died are over from here on
  return for_each_id(context, names, [&](const std::string& name) {
    check_id(name);
    auto there = session::list_volumes(context.directories());
    bool exists = std::find(there.begin(), there.end(), name) != there.end();
    if (!exists && !force) find(context, name);
    if (exists) remove(context, name, sessions);
    fmt::print("{}\n", name);
  });
}

int prune(Context& context) {
  std::string older;
  bool all = false, dry = false;
  Options options("volume prune", "Remove volumes that no session has, not even one that has ended, and tell how many bytes that gave back.");
  options.value("--older", older, "those that no session was given for so long, such as 30m or 720h");
  options.flag("-a,--all", all, "all of them");
  options.flag("--dry-run", dry, "only tell what would be removed");
  if (auto rest = context.parse(options); !rest.empty()) throw UsageError(fmt::format("volume prune: takes no arguments, not '{}'", shown(rest[0])));
  if (all == !older.empty()) throw UsageError("volume prune: volumes are made to outlive sessions; say --older TIME, or --all");
  auto age = all ? 0 : parse_duration(older);
  if (!age) throw UsageError(fmt::format("--older: must be a time such as 30m or 720h, not '{}'", shown(older)));
  std::int64_t then = ::time(nullptr) - static_cast<std::int64_t>((*age + 999) / 1000);
  std::vector<Found> sessions = all_sessions(context);
  std::uint64_t count = 0, sum = 0;
  int code = 0;
  for (const session::Volume& volume : all_volumes(context)) {
    if (volume.used > then || !users_of(sessions, volume.name, false).empty() || !users_of(sessions, volume.name, true).empty()) continue;
    code = std::max(code, for_each_id(context, {volume.name}, [&](const std::string& name) {
                      std::uint64_t bytes = session::bytes_on_disk(volume.data);
                      if (!dry) remove(context, name, sessions);
                      ++count, sum += bytes;
                      fmt::print("{}\n", json{{"name", name}, {"bytes", bytes}}.dump());
                    }));
  }
  std::fflush(stdout);
  fmt::print(stderr, "runner: {} volume{} {}, {}\n", count, count == 1 ? "" : "s", dry ? "would be removed" : "removed", human_bytes(sum));
  return code;
}

}  // namespace

int volume_main(Context& context) {
  constexpr std::pair<const char*, int (*)(Context&)> kWords[] = {{"ls", list}, {"inspect", inspect}, {"create", create}, {"rm", rm}, {"prune", prune}};
  constexpr const char* kTakeAValue[] = {"--root", "--log", "--log-format", "--rootless", "--criu", "--cgroup-manager"};
  // The first word that is no flag, nor the value of a global one.
  for (std::size_t i = 0; i < context.arguments.size(); ++i) {
    const std::string& argument = context.arguments[i];
    if (std::find(std::begin(kTakeAValue), std::end(kTakeAValue), argument) != std::end(kTakeAValue)) ++i;
    if (argument[0] == '-') continue;
    for (auto [word, act] : kWords)
      if (argument == word) {
        context.arguments.erase(context.arguments.begin() + static_cast<std::ptrdiff_t>(i));
        return act(context);
      }
    break;
  }
  Options options("volume", "volume ls, volume inspect NAME..., volume create NAME..., volume rm [-f] NAME..., volume prune --older TIME|--all");
  context.parse(options);
  throw UsageError("volume: takes `ls`, `inspect`, `create`, `rm` or `prune`");
}

}  // namespace runner::cli
