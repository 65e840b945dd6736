// `runner job VERB`: the agent loop. Here: the table of verbs, and what a job is on the disk.
#include "runner/cli/job.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/file.h>
#include <sys/fsuid.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include <climits>
#include <nlohmann/json.hpp>

#include "isolate/sys/error.h"
#include "isolate/sys/file.h"
#include "isolate/sys/paths.h"
#include "runner/session/directories.h"
#include "runner/session/time.h"
#include "runner/snapshot/digest.h"

namespace runner::cli {

using namespace isolate::sys;
using json = nlohmann::ordered_json;

namespace {

struct JobVerb {
  const char* name;
  int (*main)(Context&);
  const char* help;
};

constexpr int kJobUsage = 2;  // agent-loop.md §3: a mistake in the command line or in a file

constexpr JobVerb kVerbs[] = {
    {"run", job_run, "EXPERT [QUERY]: run an expert to its end, or to a question"},
    {"warm", job_warm, "EXPERT: start its skills once, and let jobs of it begin from there"},
    {"lock", job_lock, "EXPERT: write down, in experts.lock, what its skills offer"},
    {"continue", job_continue, "JOB [--answers FILE]: go on with a job that is paused, or whose process died"},
    {"resume-from", job_resume_from, "JOB CHECKPOINT: go on from an older checkpoint, in a branch of its own"},
    {"fork", job_fork, "JOB: another job that goes on from where this one stands, in a fork of its session"},
    {"replay", job_replay, "JOB [--tools run]: do it again from its record, and compare"},
    {"list", job_list, "list jobs: a table on a terminal, else JSON lines"},
    {"show", job_show, "JOB: what is known of it, as JSON"},
    {"events", job_events, "JOB: its events; --verify proves that none is missing"},
    {"cancel", job_cancel, "JOB: end it; its session is removed"},
    {"rm", job_rm, "JOB: remove it, when it has ended or is paused"},
};

}  // namespace

std::string jobs_folder(Context& context) { return context.directories().data + "/jobs"; }

std::string job_folder(Context& context, const std::string& id) {
  check_id(id);
  std::string folder = jobs_folder(context) + "/" + id;
  if (!find_dir(folder)) throw std::runtime_error(fmt::format("there is no job {} (`runner job list` lists them)", shown(id)));
  return folder;
}

// Where the owner of the id ranges has none: the last range of all, directories.h.
std::uint32_t user_of_job(const std::string& id) {
  if (::geteuid() != 0) return 0;
  std::uint32_t number = static_cast<std::uint32_t>(std::stoul(snapshot::sha256(id).substr(0, 7), nullptr, 16));
  return session::kFirstKeeperId + number % (session::kKeeperIds - 1);
}

std::string fresh_job(const std::string& prefix) {
  std::uint32_t number;
  check(::getrandom(&number, sizeof number, 0), "make a random id");
  return fmt::format("{}-{:08x}", prefix, number);
}

std::string caller_directory() {
  char path[PATH_MAX];
  return ::getcwd(path, sizeof path) ? path : "/";
}

std::string absolute_path(const std::string& path) { return path.empty() || path[0] == '/' ? path : caller_directory() + "/" + path; }

std::string make_job_folder(const std::string& jobs, const std::string& id) {
  std::string folder = jobs + "/" + id;
  make_dirs(jobs, 0711);
  if (::mkdir(folder.c_str(), 0700) == -1) {
    if (errno == EEXIST) throw UsageError(fmt::format("job: there is a job {} already", id));
    fail(errno, "make {}", folder);
  }
  for (const char* name : {"checkpoints", "blobs", "exchanges", "tools"}) make_dirs(folder + "/" + name, 0700);
  make_dirs(folder + "/empty", 0555);  // the root of runner-model
  return folder;
}

// The kernel takes the rights to pass over permissions with it: capabilities(7), "Effect of user ID changes".
AsUserOfJob::AsUserOfJob(const std::string& id, const std::string& folder) : folder_(open_file(folder, O_PATH | O_DIRECTORY | O_CLOEXEC)), user_(user_of_job(id)) {
  if (user_) ::setfsgid(user_), ::setfsuid(user_);
}
AsUserOfJob::~AsUserOfJob() {
  if (user_) ::setfsuid(0), ::setfsgid(0);
}

std::string AsUserOfJob::path() const { return fd_path(folder_.get()); }

std::string read_of_job(const std::string& id, const std::string& folder, const std::string& name) {
  AsUserOfJob as(id, folder);
  return read_file(as.file(name), 1u << 30);
}

void give_to_user_of_job(const std::string& folder, const std::string& id) {
  std::uint32_t user = user_of_job(id);
  if (!user) return;
  for (const char* name : {"checkpoints", "blobs", "exchanges", "tools"}) check(::chown((folder + "/" + name).c_str(), user, user), "give {}/{} to the job's user", folder, name);
  check(::chown(folder.c_str(), 0, user), "give {} to the job's group", folder);
  check(::chmod(folder.c_str(), 01770), "set the mode of {}", folder);
}

JobRecord new_record(const std::string& id, const std::string& expert, const std::string& config, const std::string& policy, const std::vector<std::string>& volumes) {
  JobRecord record;
  record.id = record.session = id;
  record.expert = expert;
  record.policy = policy;
  record.directory = caller_directory();
  record.expert_file = absolute_path(config);
  record.started = session::rfc3339_now();
  for (const std::string& volume : volumes) record.session_flags.insert(record.session_flags.end(), {"-v", volume});
  return record;
}

JobRecord read_job(Context& context, const std::string& id) {
  std::string folder = job_folder(context, id);
  if (::access((folder + "/job.json").c_str(), F_OK) == -1) throw std::runtime_error(fmt::format("job {} was never begun: remove it with `runner job rm {}`", id, id));
  return read_job_in(folder);
}

JobRecord read_job_in(const std::string& folder) {
  std::string path = folder + "/job.json";
  json j = json::parse(read_file(path));
  if (j.at("version") != 1) throw std::runtime_error(fmt::format("{} is of a version that this runner does not know", path));
  JobRecord r;
  auto read = [&](const char* name, auto& to) { j.at(name).get_to(to); };
  read("id", r.id), read("expert", r.expert), read("expert_file", r.expert_file), read("expert_sha256", r.expert_sha256), read("query", r.query);
  read("provider", r.provider), read("model", r.model), read("policy", r.policy), read("workspace", r.workspace), read("directory", r.directory);
  read("started", r.started), read("session", r.session), read("session_flags", r.session_flags);
  read("interactive_delegates", r.interactive_delegates);
  r.agents = j.value("agents", "");
  r.forked_from = j.value("forked_from", "");
  r.warm = j.value("warm", "");
  r.environment_sha256 = j.value("environment_sha256", "");
  return r;
}

void write_job(const std::string& folder, const JobRecord& r) {
  json j{{"version", 1}, {"id", r.id}, {"expert", r.expert}, {"expert_file", r.expert_file}, {"expert_sha256", r.expert_sha256}, {"query", r.query},
         {"provider", r.provider}, {"model", r.model}, {"policy", r.policy}, {"workspace", r.workspace}, {"directory", r.directory}, {"started", r.started},
         {"session", r.session}, {"session_flags", r.session_flags}, {"interactive_delegates", r.interactive_delegates}};
  if (!r.agents.empty()) j["agents"] = r.agents;
  if (!r.forked_from.empty()) j["forked_from"] = r.forked_from;
  if (!r.warm.empty()) j["warm"] = r.warm;
  if (!r.environment_sha256.empty()) j["environment_sha256"] = r.environment_sha256;
  replace_file(folder + "/job.json", j.dump(2, ' ', true, json::error_handler_t::replace) + "\n", 0600, true);
}

Fd hold_job(const std::string& folder, const std::string& id) {
  Fd lock = open_file(folder + "/lock", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
  if (::flock(lock.get(), LOCK_EX | LOCK_NB) == -1)
    throw std::runtime_error(fmt::format("job {} is running, kept by process {}", id, keeper_of(folder)));
  std::string pid = fmt::format("{}\n", ::getpid());
  check(::ftruncate(lock.get(), 0), "empty {}/lock", folder);
  write_all(lock.get(), pid);
  return lock;
}

pid_t keeper_of(const std::string& folder) {
  Fd lock(::open((folder + "/lock").c_str(), O_RDONLY | O_CLOEXEC));
  if (!lock || ::flock(lock.get(), LOCK_SH | LOCK_NB) == 0) return 0;
  return std::atoi(find_file(folder + "/lock").value_or("0").c_str());
}

int job_main(Context& context) {
  // The first word that is no flag of ours.
  auto& words = context.arguments;
  for (std::size_t i = 0; i < words.size(); ++i) {
    if (words[i].empty() || words[i][0] == '-') {
      if (takes_value(words[i])) ++i;
      continue;
    }
    for (const JobVerb& verb : kVerbs) {
      if (words[i] != verb.name) continue;
      words.erase(words.begin() + static_cast<std::ptrdiff_t>(i));
      try {
        return verb.main(context);
      } catch (const UsageError& error) {
        report_error(context.globals, error.what());
        return kJobUsage;
      }
    }
    throw UsageError(fmt::format("job: no verb '{}' (see `runner job --help`)", shown(words[i])));
  }
  std::string help = "usage: runner job VERB ...\n\n";
  for (const JobVerb& verb : kVerbs) help += fmt::format("  {:10} {}\n", verb.name, verb.help);
  throw HelpAsked(help);
}

}  // namespace runner::cli
