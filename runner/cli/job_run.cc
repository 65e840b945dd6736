// `runner job run` and `continue`: a job begins, and goes on.
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <set>
#include <sstream>

#include "isolate/sys/error.h"
#include "isolate/sys/file.h"
#include "runner/agent/store.h"
#include "runner/agent/told.h"
#include "runner/cli/job.h"
#include "runner/events/mask.h"
#include "runner/events/trace.h"

namespace runner::cli {

using namespace isolate::sys;

namespace {

std::string read_stdin_or_file(const std::string& path) {
  if (path != "-") return read_file(path);
  std::string text;
  char block[65536];
  for (ssize_t got; (got = check(::read(0, block, sizeof block), "read stdin")) > 0;) text.append(block, static_cast<std::size_t>(got));
  return text;
}

}  // namespace

agent::Order order_of(const JobRecord& record, const std::string& folder) {
  agent::Order order;
  order.job = record.id, order.folder = folder, order.expert = record.expert, order.query = record.query, order.session = record.session;
  order.started = record.started, order.version = RUNNER_VERSION, order.expert_file = record.expert_file;
  order.directory = record.directory, order.agents = record.agents, order.provider = record.provider, order.model = record.model;
  order.interactive_delegates = record.interactive_delegates;
  if (record.workspace.starts_with("/")) order.workspace = record.workspace;
  order.traceparent = events::caller_traceparent();
  return order;
}

int job_run(Context& context) {
  std::string config, workspace, policy, name, model, provider, input, agents;
  std::vector<std::string> env, volumes;
  bool stdin_answers = false, deltas = false, no_questions = false, drift = false;
  Options options("job run", "Run an expert: runner job run [flags] EXPERT [QUERY]. stdout has its events; status 75: it waits for answers.");
  options.value("-c,--config", config, "experts.toml, or a sub-agent's .md; else experts.toml or perstack.toml here or above");
  options.value("--agents", agents, "a folder of sub-agents' .md files: delegates of EXPERT");
  options.value("-w,--workspace", workspace, "the folder that the expert works in; else an empty one that goes with the job");
  options.value("--policy", policy, "of its session: a name or a file; else the expert's, else default");
  options.value("--name", name, "its id");
  options.value("--model", model, "instead of the file's");
  options.value("--provider", provider, "anthropic, openai or script, instead of the file's");
  options.value("--input", input, "file with the query; - is stdin");
  options.values("-v,--volume", volumes, "HOST:INSIDE:ro, as of `run`");
  options.flag("-i,--interactive", stdin_answers, "answers to questions come on stdin, a JSON object a line; at its end the job is suspended");
  options.flag("--deltas", deltas, "text.delta events while a model speaks");
  options.flag("--no-delegate-questions", no_questions, "delegates may not ask a person");
  options.flag("--allow-drift", drift, "also when experts.lock is not of this expert file; it is left out then");
  std::vector<std::string> words = context.parse(options);
  if (words.empty()) throw UsageError("job run: EXPERT is missing");
  if (words.size() > 2) throw UsageError("job run: more than one QUERY: quote it");
  if (words.size() == 1 && input.empty()) throw UsageError("job run: QUERY is missing: give it behind EXPERT, or --input FILE");
  if (words.size() == 2 && !input.empty()) throw UsageError("job run: QUERY is given twice, as a word and by --input");
  JobRecord record = new_record(name.empty() ? fresh_job() : name, words[0], config, policy, volumes);
  check_id(record.id);
  record.query = words.size() == 2 ? words[1] : read_stdin_or_file(input);
  record.workspace = absolute_path(workspace);
  if (!record.workspace.empty() && !find_dir(record.workspace)) throw UsageError(fmt::format("job run: --workspace {} is no directory", workspace));
  record.agents = absolute_path(agents);
  record.provider = provider;
  record.model = model;
  record.interactive_delegates = !no_questions;
  if (session::Entry::find(context.directories(), record.session)) throw UsageError(fmt::format("job run: there is a session {} already", record.session));
  std::string folder = make_job_folder(jobs_folder(context), record.id);
  Fd lock = hold_job(folder, record.id);
  agent::Order order = order_of(record, folder);
  order.begins = true;
  order.allow_drift = drift;
  order.answers_on_stdin = stdin_answers;
  order.deltas = deltas;
  return keep_job(context, std::move(order), std::move(record));
}

int job_continue(Context& context) {
  std::string answers;
  bool stdin_answers = false, deltas = false, drift = false;
  Options options("job continue", "Go on with a job that is paused, or whose process died: runner job continue JOB [--answers FILE].");
  options.value("--answers", answers, R"(file of {"call":"t2","ok":true,"content":[{"type":"text","text":"yes"}]}, one or many; - is stdin)");
  options.flag("-i,--interactive", stdin_answers, "answers to questions come on stdin, a JSON object a line");
  options.flag("--deltas", deltas, "text.delta events while a model speaks");
  options.flag("--allow-drift", drift, "also when the expert file or experts.lock has changed");
  std::string id = one_argument(context.parse(options), "job continue", "JOB");
  std::string folder = job_folder(context, id);
  Fd lock = hold_job(folder, id);
  JobRecord record = read_job(context, id);
  agent::Job job;
  bool all_said = false;
  {
    AsUserOfJob as(id, folder);
    job = agent::Store(as.path()).load(id);
    all_said = ::access((folder + "/events.ndjson").c_str(), F_OK) == 0 && agent::has_ended(as.file("events.ndjson"));
  }
  bool ended = job.runs.count("r1") && !job.runs.at("r1").result.empty();
  // Whoever ended it may have been killed before all was said, and removed.
  if (ended && all_said) {
    end_sessions_of(context, id);
    throw UsageError(fmt::format("job continue: job {} has ended ({}): there is nothing to go on with", id, job.runs.at("r1").result));
  }
  agent::Order order = order_of(record, folder);
  order.begins = job.seq == 0 && ::access((folder + "/events.ndjson").c_str(), F_OK) == -1;
  order.answers_on_stdin = stdin_answers;
  order.deltas = deltas;
  if (!answers.empty()) order.answers = read_stdin_or_file(answers);
  order.allow_drift = drift;
  if (!drift) order.expert_sha256 = record.expert_sha256;
  return keep_job(context, std::move(order), std::move(record));
}

namespace {

using nlohmann::json;

// Under the one mask, as agent-loop.md §5.5 has it.
std::vector<json> masked_events(const std::string& log) {
  std::istringstream lines(events::mask_stream(log));
  std::vector<json> all;
  for (std::string line; std::getline(lines, line);) {
    all.push_back(json::parse(line));
    all.back().erase("prev");  // follows from what differs before it
    all.back().at("data").erase("memory_peak");  // how much memory a program took is no part of what it did
  }
  return all;
}

bool is_of(const json& event, const char* type) { return event.at("type") == type; }

// A replay has the answers at once: no pause, no checkpoint of one, no question that is asked again; and so other numbers behind them.
void leave_out_pauses(std::vector<json>& all) {
  std::set<std::string> asked;
  std::erase_if(all, [&](const json& event) {
    const json& data = event.at("data");
    return is_of(event, "job.paused") || (is_of(event, "checkpoint.saved") && data.at("status") == "waiting") ||
           (is_of(event, "input.required") && !asked.insert(data.at("call").get<std::string>()).second);
  });
  for (json& event : all) {
    event.erase("sequence");
    if (is_of(event, "checkpoint.saved")) event.at("data").erase("seq"), event.at("data").erase("checkpoint");
  }
}

// Empty: they are the same.
std::string first_difference(std::vector<json> was, std::vector<json> is) {
  if (std::ranges::any_of(was, [](const json& event) { return is_of(event, "job.paused"); })) leave_out_pauses(was), leave_out_pauses(is);
  for (std::size_t i = 0; i < std::max(was.size(), is.size()); ++i) {
    if (i >= was.size()) return fmt::format("event {} is one more than there were", i + 1);
    if (i >= is.size()) return fmt::format("event {} is missing", i + 1);
    json patch = json::diff(was[i], is[i]);
    if (!patch.empty()) return fmt::format("event {} differs at {}", i + 1, patch.at(0).at("path").get<std::string>());
  }
  return "";
}

// One conversation, from its beginning.
void check_replayable(const JobRecord& record, const std::string& folder) {
  if (!record.forked_from.empty()) throw UsageError(fmt::format("job replay: job {} is a fork of {}, where its beginning is recorded", record.id, record.forked_from));
  AsUserOfJob as(record.id, folder);
  if (agent::Job job = agent::Store(as.path()).load(record.id); job.branch != "b1")
    throw UsageError(fmt::format("job replay: job {} has gone on from an older checkpoint (branch {}): what is recorded of it is more than one conversation", record.id, job.branch));
}

}  // namespace

int job_replay(Context& context) {
  std::string tools = "recorded", workspace;
  Options options("job replay", "Do a job again with the recorded answers of its model: runner job replay JOB. Status 0: the same events under the mask.");
  options.value("--tools", tools, "recorded: their results too, so nothing runs; run: they are used again");
  options.value("-w,--workspace", workspace, "with --tools run: the folder that they work in; else an empty one");
  std::string id = one_argument(context.parse(options), "job replay", "JOB");
  if (tools != "recorded" && tools != "run") throw UsageError(fmt::format("job replay: --tools is recorded or run, not '{}'", tools));
  std::string original = job_folder(context, id);
  JobRecord record = read_job(context, id);
  check_replayable(record, original);
  agent::Order order = order_of(record, "");  // with the job's own workspace, whose AGENTS.md is a part of what the model was told
  record.id = record.session = fresh_job();
  record.workspace = absolute_path(workspace);
  order.folder = make_job_folder(context.directories().data + "/replays", record.id);
  order.session = record.session;
  order.replay = original;
  order.allow_drift = true;  // what its skills offered is in the record
  order.expert_sha256 = record.expert_sha256;
  order.recorded_tools = tools == "recorded";
  order.begins = true;
  for (const std::string& name : list_dir(original + "/tools")) replace_file(order.folder + "/tools/" + name, read_of_job(id, original, "tools/" + name), 0644);
  std::string replayed = order.folder;
  int code = keep_job(context, order, record);
  bool done = ::access((replayed + "/events.ndjson").c_str(), F_OK) == 0;
  std::string difference = "nothing was done";
  if (done) difference = first_difference(masked_events(read_of_job(id, original, "events.ndjson")), masked_events(read_of_job(record.id, replayed, "events.ndjson")));
  remove_tree(replayed);
  if (difference.empty()) return code;
  throw std::runtime_error(fmt::format("the replay of job {} is not what was recorded: {}", id, difference));
}

}  // namespace runner::cli
