// `runner job list`, `show`, `events`, `cancel` and `rm`: jobs that are there.
#include <fcntl.h>
#include <fmt/format.h>
#include <signal.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "isolate/sys/error.h"
#include "isolate/sys/file.h"
#include "runner/agent/store.h"
#include "runner/cli/job.h"
#include "runner/cli/sessions.h"
#include "runner/cli/table.h"
#include "runner/events/reader.h"
#include "runner/events/verify.h"
#include "runner/session/time.h"

namespace runner::cli {

using namespace isolate::sys;
using json = nlohmann::ordered_json;

namespace {

struct JobState {
  JobRecord record;
  agent::Job job;
  std::string status, result;      // running, paused, interrupted or ended
  std::vector<json> questions;
  pid_t keeper = 0;
};

JobState state_of(Context& context, const std::string& id) {
  JobState state{read_job(context, id), {}, {}, {}, {}, 0};
  std::string folder = job_folder(context, id);
  state.keeper = keeper_of(folder);
  AsUserOfJob as(id, folder);
  state.job = agent::Store(as.path()).load(id);
  for (const auto& [name, run] : state.job.runs) {
    if (!run.turn || !run.result.empty()) continue;
    for (const agent::Call& call : run.turn->calls)
      if (call.state == agent::CallState::AwaitingCaller)
        state.questions.push_back({{"call", call.key}, {"run", name}, {"kind", call.kind}, {"tool", call.wish.name}, {"arguments", call.wish.arguments}});
  }
  auto root = state.job.runs.find("r1");
  if (root != state.job.runs.end()) state.result = root->second.result;
  state.status = !state.result.empty() ? "ended" : state.keeper ? "running" : state.questions.empty() ? "interrupted" : "paused";
  return state;
}

json describe(const JobState& s) {
  const agent::Usage& u = s.job.usage;
  json j{{"id", s.record.id}, {"status", s.status}, {"result", s.result.empty() ? json() : json(s.result)}, {"expert", s.record.expert},
         {"provider", s.record.provider}, {"model", s.record.model}, {"started", s.record.started}, {"steps", s.job.steps}, {"seq", s.job.seq},
         {"usage", {{"input", u.input}, {"cache_read", u.cache_read}, {"cache_write", u.cache_write}, {"output", u.output}, {"reasoning", u.reasoning}}},
         {"cost", s.job.cost}, {"wall_ms", s.job.wall_ms}, {"keeper", s.keeper ? json(s.keeper) : json()}, {"pending", s.questions}};
  return j;
}

// By number; those of branches that HEAD has left, too.
json all_checkpoints(const std::string& id, const std::string& folder) {
  AsUserOfJob as(id, folder);
  json all = json::array();
  std::vector<std::string> names = list_dir(as.file("checkpoints"));
  std::ranges::sort(names);
  for (const std::string& name : names) {
    if (!name.ends_with(".json")) continue;
    json j = json::parse(read_file(as.file("checkpoints/" + name), 256u << 20));
    all.push_back({{"checkpoint", name.substr(0, name.size() - 5)}, {"seq", j.at("seq")}, {"parent_seq", j.at("parent_seq")}, {"branch", j.at("branch")},
                   {"run", j.at("run").at("id")}, {"step", j.at("run").at("step")}, {"status", j.at("status")}});
  }
  return all;
}

std::string printed(const json& j, int indent = -1) { return j.dump(indent, ' ', true, json::error_handler_t::replace) + "\n"; }

}  // namespace

int job_list(Context& context) {
  std::string format;
  bool quiet = false;
  Options options("job list", "List jobs: a table on a terminal, else JSON lines.");
  options.value("--format", format, "table or json");
  options.flag("-q,--quiet", quiet, "only their ids");
  if (!context.parse(options).empty()) throw UsageError("job list: it takes no arguments");
  std::vector<Row> rows{{"JOB", "STATUS", "EXPERT", "STEPS", "STARTED", "QUERY"}};
  bool as_table = !quiet && wants_table(format);
  for (const std::string& id : list_dir(jobs_folder(context))) {
    if (quiet) {
      fmt::print("{}\n", id);
      continue;
    }
    try {
      JobState s = state_of(context, id);
      auto started = session::parse_rfc3339(s.record.started);
      std::string status = s.result.empty() ? s.status : s.result, query = s.record.query.substr(0, 40);
      if (as_table) rows.push_back({id, status, s.record.expert, std::to_string(s.job.steps), started ? human_time(::time(nullptr) - *started) : "-", query});
      else fmt::print("{}", printed(describe(s)));
    } catch (const std::exception& error) {
      report_error(context.globals, error.what());  // the others are shown all the same
    }
  }
  if (as_table) fmt::print("{}", table(rows));
  return 0;
}

int job_show(Context& context) {
  bool messages = false, checkpoints = false;
  Options options("job show", "What is known of a job, as JSON: runner job show JOB.");
  options.flag("--checkpoints", checkpoints, "with all of its checkpoints, for `job resume-from`");
  options.flag("--messages", messages, "with the conversations of its runs");
  JobState s = state_of(context, one_argument(context.parse(options), "job show", "JOB"));
  json j = describe(s);
  j["query"] = s.record.query;
  j["workspace"] = s.record.workspace.empty() ? json() : json(s.record.workspace);
  j["session"] = s.record.session;
  j["expert_file"] = s.record.expert_file;
  if (!s.record.warm.empty()) j["warm"] = s.record.warm;
  if (!s.record.forked_from.empty()) j["forked_from"] = s.record.forked_from;
  for (const auto& [id, run] : s.job.runs) {
    json r{{"run", id}, {"expert", run.expert}, {"steps", run.step}, {"result", run.result.empty() ? json() : json(run.result)}, {"text", run.text.empty() ? json() : json(run.text)}};
    if (!run.parent.empty()) r["parent"] = run.parent, r["call"] = run.parent_call;
    if (!run.todo.empty()) r["todo"] = json::parse(run.todo);
    if (messages)
      for (const agent::Message& message : run.messages) r["messages"].push_back(json::parse(agent::encode(message)));
    j["runs"].push_back(r);
  }
  if (checkpoints) j["checkpoints"] = all_checkpoints(s.record.id, job_folder(context, s.record.id));
  fmt::print("{}", printed(j, 2));
  return 0;
}

int job_events(Context& context) {
  bool verify = false;
  Options options("job events", "The events of a job: runner job events JOB.");
  options.flag("--verify", verify, "prove that no event was changed, added, moved or cut off");
  std::string id = one_argument(context.parse(options), "job events", "JOB");
  AsUserOfJob as(id, job_folder(context, id));
  std::string path = as.file("events.ndjson");
  if (verify) {
    events::VerifyResult result = events::verify_log(path);
    if (!result.ok) throw std::runtime_error(fmt::format("the log of job {} is not as it was written: {}", id, result.why));
    fmt::print("{}: {} events, none missing or changed\n", id, result.lines);
    return 0;
  }
  events::LogReader(path).read([](std::string_view lines) { write_all(1, lines); });
  return 0;
}

int job_cancel(Context& context) {
  Options options("job cancel", "End a job; what it has done stays in its record: runner job cancel JOB.");
  std::string id = one_argument(context.parse(options), "job cancel", "JOB");
  std::string folder = job_folder(context, id);
  constexpr std::int64_t kGrace = 15'000;
  if (pid_t keeper = keeper_of(folder)) {
    ::kill(keeper, SIGTERM);
    for (std::int64_t end = now_ms() + kGrace; keeper_of(folder) == keeper; ::usleep(2000))
      if (now_ms() > end) throw std::runtime_error(fmt::format("process {} of job {} does not end", keeper, id));
    return 0;
  }
  Fd lock = hold_job(folder, id);
  JobState s = state_of(context, id);
  if (s.status == "ended") throw UsageError(fmt::format("job cancel: job {} has ended ({})", id, s.result));
  agent::Order order = order_of(s.record, folder);
  order.workspace.clear();  // its AGENTS.md is of no interest any more
  order.begins = ::access((folder + "/events.ndjson").c_str(), F_OK) == -1;
  order.cancel = order.allow_drift = true;
  int code = keep_job(context, std::move(order), std::move(s.record));
  return code == 1 ? 0 : code;
}

int job_rm(Context& context) {
  bool force = false;
  Options options("job rm", "Remove jobs that have ended, with their record and their session: runner job rm JOB...");
  options.flag("-f,--force", force, "also one that is paused or interrupted");
  std::vector<std::string> ids = context.parse(options);
  if (ids.empty()) throw UsageError("job rm: JOB is missing");
  return for_each_id(context, ids, [&](const std::string& id) {
    std::string folder = job_folder(context, id);
    Fd lock = hold_job(folder, id);
    std::string status = "interrupted";
    if (::access((folder + "/job.json").c_str(), F_OK) == 0) {
      JobState s = state_of(context, id);
      status = s.status == "running" ? "interrupted" : s.status;  // it is we who hold it
      if (!s.questions.empty() && s.result.empty()) status = "paused";
    } else {
      force = true;
    }
    if (status != "ended" && !force) throw std::runtime_error(fmt::format("job {} is {}: `runner job cancel {}` first, or give --force", id, status, id));
    end_sessions_of(context, id);
    remove_volume_of(context, id);
    remove_tree(folder);
    fmt::print("{}\n", id);
  });
}

}  // namespace runner::cli
