// inspect: all that is known of a session, as one JSON array, for `jq`.
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <nlohmann/json.hpp>

#include "runner/cli/sessions.h"
#include "runner/cli/usage.h"
#include "runner/events/segments.h"
#include "runner/session/size.h"

namespace runner::cli {

namespace {

using json = nlohmann::ordered_json;

json text_or_null(const std::string& text) { return text.empty() ? json() : json(text); }

json from_limits(const session::State& state, const char* name) {
  auto limit = state.limits.find(name);
  return limit == state.limits.end() ? json() : json(limit->second);
}

// With who keeps it, which is found out at the start: a way that uses memory is another promise than one that uses the disk.
json bounded(const session::State& state, const char* name) {
  auto by = state.kept_by.find(name);
  json bytes = from_limits(state, name);
  return bytes.is_null() ? json() : json{{"bytes", bytes}, {"kept_by", by == state.kept_by.end() ? json() : json(by->second)}};
}

// Of one that runs, what the kernel enforces: a limit that this host could not set is null, whatever was asked for.
json limits_of(const session::State& state, const isolate::CgroupStats* now) {
  json millicpus = now ? or_null(now->millicpus_limit) : from_limits(state, "millicpus");
  return {{"memory", now ? or_null(now->memory_limit) : from_limits(state, "memory")},
          {"cpus", millicpus.is_null() ? json() : json(millicpus.get<double>() / 1000)},
          {"pids", now ? or_null(now->pids_limit) : from_limits(state, "pids")},
          {"wall_ms", from_limits(state, "wall_ms")},
          {"output", from_limits(state, "output")},
          {"disk", bounded(state, "disk")},
          {"workspace", bounded(state, "workspace")}};
}

json sleep_of(const session::State& state, const std::string& status) {
  if (state.sleep_ms == 0) return nullptr;
  bool asleep = status == "paused" && !state.asleep_since.empty();
  json sleep{{"after_ms", state.sleep_ms}, {"since", asleep ? json(state.asleep_since) : json()}};
  if (!state.stays_in_memory.empty()) sleep["in_memory"] = state.stays_in_memory;
  return sleep;
}

json log_of(const std::string& data) {
  std::string path = data + "/events.ndjson";
  if (::access(path.c_str(), F_OK) == -1) return nullptr;  // the caller of a foreground --rm reads it himself
  std::int64_t bytes = 0;
  std::vector<events::LogFile> files = events::open_files(path);
  for (const events::LogFile& each : files) {
    struct stat info;
    if (::fstat(each.file.get(), &info) == 0) bytes += info.st_size;
  }
  return {{"path", path}, {"bytes", bytes}, {"files", files.size()}};
}

json describe(Context& context, const Found& found, bool size) {
  const session::State& s = found.state;
  std::string status = status_of(context, s), data = context.directories().session_data(s.id);
  bool lives = status == "running" || status == "paused";
  bool has_data = ::access(data.c_str(), F_OK) == 0;
  std::optional<isolate::CgroupStats> now;
  if (lives && !s.cgroup.empty()) now = isolate::read_stats(s.cgroup, context.cgroups());
  std::string group = lives ? isolate::Cgroup::open(s.cgroup, context.cgroups()).v2_path() : "";
  return {{"id", s.id},
          {"status", status},
          {"pid", lives ? json(s.pid) : json()},
          {"created", s.created},
          {"finished", text_or_null(s.finished)},
          {"result", text_or_null(s.result)},
          {"exit_code", s.ended && s.exit_code >= 0 ? json(s.exit_code) : json()},
          {"policy", text_or_null(s.policy)},
          {"command", s.command},
          {"env", s.env_names},
          {"user", text_or_null(s.user)},
          {"cwd", text_or_null(s.cwd)},
          {"rootfs", s.rootfs},
          {"volumes", s.volumes},
          {"labels", s.annotations},
          {"owner", s.owner},
          {"remove", s.remove},
          {"limits", limits_of(s, now ? &*now : nullptr)},
          {"sleep", sleep_of(s, status)},
          {"cgroup", lives ? json({{"path", s.cgroup}, {"directory", text_or_null(group)}}) : json()},
          {"usage", now ? usage_json(*now) : json()},
          {"directories", {{"run", found.entry.path()}, {"data", has_data ? json(data) : json()}}},
          {"data_bytes", size ? json(session::bytes_on_disk(data)) : json()},
          {"log", log_of(data)}};
}

}  // namespace

int inspect_main(Context& context) {
  Options options("inspect",
                  "Print all that is known of sessions, as a JSON array. Of the environment only the names are told.");
  bool size = false;
  options.flag("--size", size, "also the bytes that its files take on the disk, which are counted one by one");
  std::vector<std::string> ids = context.parse(options);
  if (ids.empty()) throw UsageError("inspect: ID is missing");
  json all = json::array();
  int code = for_each_id(
      context, ids, [&](const std::string& id) { all.push_back(describe(context, find_session(context, id), size)); });
  fmt::print("{}\n", all.dump(2, ' ', true, json::error_handler_t::replace));
  return code;
}

}  // namespace runner::cli
