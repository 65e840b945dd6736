// `runner job VERB`: the agent loop. Here: the table of verbs, and what a job is on the disk.
#include "runner/cli/job.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <nlohmann/json.hpp>

#include "isolate/sys/error.h"
#include "isolate/sys/file.h"
#include "runner/session/directories.h"
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
    {"continue", job_continue, "JOB [--answers FILE]: go on with a job that is paused, or whose process died"},
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

JobRecord read_job(Context& context, const std::string& id) {
  std::string path = job_folder(context, id) + "/job.json";
  auto text = find_file(path);
  if (!text) throw std::runtime_error(fmt::format("job {} was never begun: remove it with `runner job rm {}`", id, id));
  json j = json::parse(*text);
  if (j.at("version") != 1) throw std::runtime_error(fmt::format("{} is of a version that this runner does not know", path));
  JobRecord r;
  auto read = [&](const char* name, auto& to) { j.at(name).get_to(to); };
  read("id", r.id), read("expert", r.expert), read("expert_file", r.expert_file), read("expert_sha256", r.expert_sha256), read("query", r.query);
  read("provider", r.provider), read("model", r.model), read("policy", r.policy), read("workspace", r.workspace), read("directory", r.directory);
  read("started", r.started), read("session", r.session), read("session_flags", r.session_flags);
  read("interactive_delegates", r.interactive_delegates);
  return r;
}

void write_job(const std::string& folder, const JobRecord& r) {
  json j{{"version", 1}, {"id", r.id}, {"expert", r.expert}, {"expert_file", r.expert_file}, {"expert_sha256", r.expert_sha256}, {"query", r.query},
         {"provider", r.provider}, {"model", r.model}, {"policy", r.policy}, {"workspace", r.workspace}, {"directory", r.directory}, {"started", r.started},
         {"session", r.session}, {"session_flags", r.session_flags}, {"interactive_delegates", r.interactive_delegates}};
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
