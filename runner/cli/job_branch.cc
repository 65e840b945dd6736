// `runner job resume-from` and `fork`: a job goes on from an older checkpoint, or twice.
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <charconv>
#include <filesystem>
#include <set>

#include "isolate/sys/error.h"
#include "isolate/sys/file.h"
#include "runner/agent/store.h"
#include "runner/cli/job.h"
#include "runner/cli/sessions.h"
#include "runner/events/job_types.h"
#include "runner/events/trace.h"
#include "runner/session/volumes.h"

namespace runner::cli {

using namespace isolate::sys;

namespace {

// The names "<seq>-<id>" of a job's checkpoints that `wish` may mean: its number, its id, or both.
std::vector<std::string> checkpoints_like(const std::string& folder, const std::string& wish) {
  std::vector<std::string> found;
  for (std::string name : list_dir(folder + "/checkpoints")) {
    if (!name.ends_with(".json")) continue;
    name.resize(name.size() - 5);
    std::size_t dash = name.find('-');
    if (dash == std::string::npos) continue;
    std::uint64_t number = 0, asked = 0;
    std::from_chars(name.data(), name.data() + dash, number);
    auto [end, bad] = std::from_chars(wish.data(), wish.data() + wish.size(), asked);
    bool same_number = bad == std::errc() && end == wish.data() + wish.size() && asked == number && wish.size() < 12;
    if (wish == name || wish == name.substr(dash + 1) || same_number) found.push_back(name);
  }
  return found;
}

std::string find_checkpoint(const std::string& folder, const std::string& job, const std::string& wish) {
  std::vector<std::string> found = checkpoints_like(folder, wish);
  if (found.empty()) throw UsageError(fmt::format("job {} has no checkpoint {} (`runner job show --checkpoints {}` lists them)", job, shown(wish), job));
  if (found.size() > 1) throw UsageError(fmt::format("job {} has several checkpoints {}: {}; name one of them", job, shown(wish), fmt::join(found, ", ")));
  return found[0];
}

// The job that has a checkpoint of this id, which no two have.
std::string job_of_checkpoint(Context& context, const std::string& wish) {
  if (find_dir(jobs_folder(context)))
    for (const std::string& job : list_dir(jobs_folder(context)))
      if (wish.size() >= 12 && !checkpoints_like(jobs_folder(context) + "/" + job, wish).empty()) return job;
  throw UsageError(fmt::format("job resume-from: no job has a checkpoint of the id {}: a number wants its job before it", shown(wish)));
}

}  // namespace

int job_resume_from(Context& context) {
  bool stdin_answers = false, deltas = false, drift = false;
  Options options("job resume-from", "Go on from an older checkpoint, in a branch of its own: runner job resume-from JOB CHECKPOINT. Files and programs of its session stay as they are.");
  options.flag("-i,--interactive", stdin_answers, "answers to questions come on stdin, a JSON object a line");
  options.flag("--deltas", deltas, "text.delta events while a model speaks");
  options.flag("--allow-drift", drift, "also when the expert file or experts.lock has changed");
  std::vector<std::string> words = context.parse(options);
  if (words.empty() || words.size() > 2) throw UsageError("job resume-from: JOB CHECKPOINT, or the id of a checkpoint alone");
  std::string id = words.size() == 2 ? words[0] : job_of_checkpoint(context, words[0]), folder = job_folder(context, id);
  Fd lock = hold_job(folder, id);
  JobRecord record = read_job(context, id);
  agent::Order order = order_of(record, folder);
  order.resume_from = find_checkpoint(folder, id, words.back());
  agent::Job older;
  {
    AsUserOfJob as(id, folder);
    older = agent::Store(as.path()).load(id, order.resume_from);
  }
  if (older.runs.count("r1") && !older.runs.at("r1").result.empty()) throw UsageError(fmt::format("job resume-from: checkpoint {} is the end of job {}: choose an older one", words.back(), id));
  order.answers_on_stdin = stdin_answers;
  order.deltas = deltas;
  order.allow_drift = drift;
  if (!drift) order.expert_sha256 = record.expert_sha256;
  return keep_job(context, std::move(order), std::move(record));
}

namespace {

// Of a job that stands still. A call that was made and has no result yet would be made, or be waited for, by both.
void check_at_rest(const std::string& folder, const std::string& id) {
  std::set<std::string> under_way;
  agent::Journal journal(folder + "/journal");
  for (const agent::JournalLine& line : journal.before()) {
    std::string key = line.key.substr(0, line.key.find('+'));
    if (line.kind == 'I') under_way.insert(key);
    if (line.kind == 'R') under_way.erase(key);
  }
  if (!under_way.empty())
    throw std::runtime_error(fmt::format("job {} was interrupted while its call {} was made: `runner job continue {}` finds out what came of it; fork it then", id, *under_way.begin(), id));
}

// A session that is on disk is woken for it, and goes back.
void fork_suspended(Context& context, const std::string& from, const std::string& to, const std::string& workspace) {
  auto entry = session::Entry::find(context.directories(), from);
  if (!entry) return;  // it has none: the copy begins one
  bool slept = !session::find_suspended(context.directories(), from).empty();
  if (slept) run_self(context, {"wake", from});
  std::string snapshot = to + ".origin";
  run_self(context, {"snapshot", "create", "--leave-running", "--name", snapshot, from});
  std::vector<std::string> words{"restore", "-d", "--output", "raw", "--from", snapshot, to};
  if (!workspace.empty()) words.insert(words.end(), {"-v", workspace + ":/workspace"});
  run_self(context, words);
  run_self(context, {"suspend", to});
  if (slept) run_self(context, {"suspend", from});
}

void copy_job(const std::string& from, const std::string& was, const std::string& to, const std::string& id) {
  auto names = [&](const char* folder) {
    AsUserOfJob as(was, from);
    return list_dir(as.file(folder));
  };
  for (const char* folder : {"blobs", "exchanges", "tools", "checkpoints"})
    for (const std::string& name : names(folder)) {
      if (name.ends_with(".part")) continue;
      std::string path = std::string(folder) + "/" + name, text = read_of_job(was, from, path);
      replace_file(to + "/" + path, folder == std::string("checkpoints") ? agent::move_checkpoint(text, id) : text, 0600);
    }
  for (const char* name : {"HEAD", "journal", "services.json"})
    if (::access((from + "/" + name).c_str(), F_OK) == 0) replace_file(to + "/" + name, read_of_job(was, from, name), 0600);
}

// All files of a volume have one owner.
void copy_volume(Context& context, const std::string& from, const std::string& to) {
  auto source = session::find_volume(context.directories(), from);
  if (!source) return;
  session::VolumeLease lease = session::VolumeLease::take(context.directories(), to);
  const session::Volume& made = lease.volume();
  std::filesystem::copy(source->data, made.data, std::filesystem::copy_options::recursive | std::filesystem::copy_options::copy_symlinks);
  for (const auto& entry : std::filesystem::recursive_directory_iterator(made.data)) check(::lchown(entry.path().c_str(), made.uid, made.gid), "give {} its owner", entry.path().string());
}

// Nobody but us has been in there.
void give_files(const std::string& folder, const std::string& id) {
  std::uint32_t user = user_of_job(id);
  if (!user) return;
  for (const char* name : {"checkpoints", "blobs", "exchanges", "tools", ""})
    for (const std::string& file : list_dir(folder + "/" + name)) {
      std::string path = folder + "/" + name + "/" + file;
      if (struct stat info; file != "job.json" && file != "lock" && ::lstat(path.c_str(), &info) == 0 && S_ISREG(info.st_mode))
        check(::lchown(path.c_str(), user, user), "give {} to the job's user", path);
    }
}

}  // namespace

int job_fork(Context& context) {
  std::string name, workspace;
  Options options("job fork", "Another job that goes on from where this one stands, in a fork of its session: runner job fork JOB. Prints its id; `job continue` runs it.");
  options.value("--name", name, "its id");
  options.value("-w,--workspace", workspace, "its folder; else both work in the same");
  std::string id = one_argument(context.parse(options), "job fork", "JOB"), folder = job_folder(context, id);
  if (!workspace.empty() && !find_dir(workspace)) throw UsageError(fmt::format("job fork: --workspace {} is no directory", workspace));
  Fd lock = hold_job(folder, id);
  JobRecord record = read_job(context, id);
  agent::Job job;
  {
    AsUserOfJob as(id, folder);
    job = agent::Store(as.path()).load(id);
    check_at_rest(as.path(), id);
  }
  if (job.head.empty()) throw UsageError(fmt::format("job fork: job {} has no checkpoint yet: start another with `runner job run`", id));
  record.id = record.session = name.empty() ? fresh_job() : name;
  check_id(record.id);
  if (session::Entry::find(context.directories(), record.session)) throw UsageError(fmt::format("job fork: there is a session {} already", record.session));
  record.forked_from = fmt::format("{}/{}", id, job.seq);
  std::string to = make_job_folder(jobs_folder(context), record.id);
  Fd held = hold_job(to, record.id);
  try {
    if (!workspace.empty()) record.workspace = absolute_path(workspace);
    if (record.workspace == volume_of_job(id)) copy_volume(context, record.workspace, volume_of_job(record.id)), record.workspace = volume_of_job(record.id);
    bool moves = record.workspace != read_job(context, id).workspace;
    copy_job(folder, id, to, record.id);
    events::Writer log = events::Writer::create(to + "/events.ndjson", "runner/job/" + record.id, events::caller_traceparent());
    events::JobStarted started{record.id, record.expert, {agent::Store(to).payload(record.query)}, record.provider, record.model, record.expert_sha256, RUNNER_VERSION, record.forked_from};
    log.write(started);
    const agent::Run& root = job.runs.at("r1");
    log.write(events::CheckpointSaved{job.seq, job.head, root.id, root.step, job.status, agent::told(job.usage)});
    give_files(to, record.id);
    give_to_user_of_job(to, record.id);
    fork_suspended(context, id, record.session, moves ? record.workspace : "");
    for (const auto& [run, is] : job.runs)  // of delegates
      if (is.result.empty() && !is.session.empty()) fork_suspended(context, is.session, record.id + is.session.substr(id.size()), moves ? record.workspace : "");
    write_job(to, record);
  } catch (...) {
    end_sessions_of(context, record.id);
    remove_volume_of(context, record.id);
    remove_tree(to);
    throw;
  }
  fmt::print("{}\n", record.id);
  return 0;
}

}  // namespace runner::cli
