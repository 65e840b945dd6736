// `runner job run` and `continue`: a job begins, and goes on.
#include <fmt/format.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include <climits>
#include <nlohmann/json.hpp>
#include <sstream>

#include "isolate/sys/error.h"
#include "isolate/sys/file.h"
#include "runner/agent/store.h"
#include "runner/cli/job.h"
#include "runner/events/mask.h"
#include "runner/events/trace.h"
#include "runner/session/time.h"

namespace runner::cli {

using namespace isolate::sys;

namespace {

std::string fresh_job() {
  std::uint32_t number;
  check(::getrandom(&number, sizeof number, 0), "make a random id");
  return fmt::format("j-{:08x}", number);
}

std::string here() {
  char path[PATH_MAX];
  return ::getcwd(path, sizeof path) ? path : "/";
}

std::string absolute(const std::string& path) { return path.empty() || path[0] == '/' ? path : here() + "/" + path; }

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
  order.directory = record.directory, order.workspace = record.workspace, order.provider = record.provider, order.model = record.model;
  order.interactive_delegates = record.interactive_delegates;
  order.traceparent = events::caller_traceparent();
  return order;
}

namespace {

std::string make_folder(const std::string& jobs, const std::string& id) {
  std::string folder = jobs + "/" + id;
  make_dirs(jobs, 0711);
  if (::mkdir(folder.c_str(), 0700) == -1) {
    if (errno == EEXIST) throw UsageError(fmt::format("job: there is a job {} already", id));
    fail(errno, "make {}", folder);
  }
  for (const char* name : {"checkpoints", "blobs", "exchanges", "tools"}) make_dirs(folder + "/" + name, 0700);
  return folder;
}

}  // namespace

int job_run(Context& context) {
  std::string config, workspace, policy, name, model, provider, input;
  std::vector<std::string> env, volumes;
  bool stdin_answers = false, deltas = false, no_questions = false;
  Options options("job run", "Run an expert: runner job run [flags] EXPERT [QUERY]. stdout has its events; status 75: it waits for answers.");
  options.value("-c,--config", config, "experts.toml, or a sub-agent's .md; else experts.toml or perstack.toml here or above");
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
  std::vector<std::string> words = context.parse(options);
  if (words.empty()) throw UsageError("job run: EXPERT is missing");
  if (words.size() > 2) throw UsageError("job run: more than one QUERY: quote it");
  if (words.size() == 1 && input.empty()) throw UsageError("job run: QUERY is missing: give it behind EXPERT, or --input FILE");
  if (words.size() == 2 && !input.empty()) throw UsageError("job run: QUERY is given twice, as a word and by --input");
  JobRecord record;
  record.id = name.empty() ? fresh_job() : name;
  check_id(record.id);
  record.expert = words[0];
  record.query = words.size() == 2 ? words[1] : read_stdin_or_file(input);
  record.workspace = absolute(workspace);
  if (!record.workspace.empty() && !find_dir(record.workspace)) throw UsageError(fmt::format("job run: --workspace {} is no directory", workspace));
  record.policy = policy;
  record.directory = here();
  record.expert_file = absolute(config);
  record.session = record.id;
  record.started = session::rfc3339_now();
  record.provider = provider;
  record.model = model;
  record.interactive_delegates = !no_questions;
  for (const std::string& volume : volumes) record.session_flags.insert(record.session_flags.end(), {"-v", volume});
  if (session::Entry::find(context.directories(), record.session)) throw UsageError(fmt::format("job run: there is a session {} already", record.session));
  std::string folder = make_folder(jobs_folder(context), record.id);
  Fd lock = hold_job(folder, record.id);
  agent::Order order = order_of(record, folder);
  order.begins = true;
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
  options.flag("--allow-drift", drift, "also when the expert file has changed");
  std::string id = one_argument(context.parse(options), "job continue", "JOB");
  std::string folder = job_folder(context, id);
  Fd lock = hold_job(folder, id);
  JobRecord record = read_job(context, id);
  agent::Job job = agent::Store(folder).load(id);
  if (job.runs.count("r1") && !job.runs.at("r1").result.empty())
    throw UsageError(fmt::format("job continue: job {} has ended ({}): there is nothing to go on with", id, job.runs.at("r1").result));
  agent::Order order = order_of(record, folder);
  order.begins = job.seq == 0 && ::access((folder + "/events.ndjson").c_str(), F_OK) == -1;
  order.answers_on_stdin = stdin_answers;
  order.deltas = deltas;
  if (!answers.empty()) order.answers = read_stdin_or_file(answers);
  if (!drift) order.expert_sha256 = record.expert_sha256;
  return keep_job(context, std::move(order), std::move(record));
}

namespace {

// Under the one mask, as agent-loop.md §5.5 has it. Empty: they are the same.
std::string first_difference(const std::string& was_path, const std::string& is_path) {
  std::istringstream was(events::mask_stream(read_file(was_path, 1u << 30))), is(events::mask_stream(read_file(is_path, 1u << 30)));
  for (std::size_t number = 1;; ++number) {
    std::string before, after;
    bool first = static_cast<bool>(std::getline(was, before)), second = static_cast<bool>(std::getline(is, after));
    if (!first && !second) return "";
    if (!first) return fmt::format("event {} is one more than there were", number);
    if (!second) return fmt::format("event {} is missing", number);
    nlohmann::json then = nlohmann::json::parse(before), now = nlohmann::json::parse(after);
    // `prev` follows from what differs before it; how much memory a program took is no part of what it did.
    for (nlohmann::json* event : {&then, &now}) {
      event->erase("prev");
      event->at("data").erase("memory_peak");
    }
    nlohmann::json patch = nlohmann::json::diff(then, now);
    if (patch.empty()) continue;
    return fmt::format("event {} differs at {}", number, patch.at(0).at("path").get<std::string>());
  }
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
  agent::Order order = order_of(record, "");
  record.id = record.session = fresh_job();
  record.workspace = absolute(workspace);
  order.folder = make_folder(context.directories().data + "/replays", record.id);
  order.session = record.session;
  order.replay = original;
  order.expert_sha256 = record.expert_sha256;
  order.recorded_tools = tools == "recorded";
  order.begins = true;
  order.workspace = read_job(context, id).workspace;  // its AGENTS.md is a part of what the model was told
  for (const std::string& name : list_dir(original + "/tools")) replace_file(order.folder + "/tools/" + name, read_file(original + "/tools/" + name), 0644);
  std::string replayed = order.folder;
  int code = keep_job(context, order, record);
  std::string difference = ::access((replayed + "/events.ndjson").c_str(), F_OK) == 0 ? first_difference(original + "/events.ndjson", replayed + "/events.ndjson") : "nothing was done";
  bool paused = read_file(original + "/events.ndjson", 1u << 30).find(R"("type":"job.paused")") != std::string::npos;
  remove_tree(replayed);
  if (!difference.empty() && paused && code == 0) difference = "";  // it was taken up again in between, which a replay is not
  if (difference.empty()) return code;
  throw std::runtime_error(fmt::format("the replay of job {} is not what was recorded: {}", id, difference));
}

}  // namespace runner::cli
