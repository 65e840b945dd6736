// The jobs of `runner job`, as their keeper has them: the process that has rights, and hears nothing of a model or a tool. runner-agent runs the
// loop, runner-model makes the calls (runner/agent/hands.h, model/protocol.h); both have none.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "runner/agent/assignment.h"
#include "runner/cli/context.h"

namespace runner::cli {

/// job.json: what a job was started with. It is never changed.
struct JobRecord {
  std::string id, expert, expert_file, agents, expert_sha256, query, provider, model, policy, workspace, directory, started, session;
  std::vector<std::string> session_flags;  // of `run`, as the caller gave them
  // `workspace` is a path, or a volume, whose name has no slash; empty: a folder of the session's own.
  bool interactive_delegates = true;
  std::string forked_from;         // JOB/SEQ; empty: no fork
  std::string warm;                // the snapshot that its session comes out of; empty: none
  std::string environment_sha256;  // of a warm snapshot: what its skills were given, salted with its id
};

std::string jobs_folder(Context& context);
std::string job_folder(Context& context, const std::string& id);
/// Throws when there is none of that id.
JobRecord read_job(Context& context, const std::string& id);
/// Of one that begins, with what the caller says of its expert and the session.
JobRecord new_record(const std::string& id, const std::string& expert, const std::string& config, const std::string& policy, const std::vector<std::string>& volumes);
JobRecord read_job_in(const std::string& folder);
void write_job(const std::string& folder, const JobRecord& record);
std::string fresh_job(const std::string& prefix = "j");
/// As the caller means it; empty stays so.
std::string absolute_path(const std::string& path);
std::string caller_directory();
/// The folder of a new job. Throws UsageError when there is one of that id.
std::string make_job_folder(const std::string& jobs, const std::string& id);
/// Whose process keeps it now; 0: nobody.
pid_t keeper_of(const std::string& folder);
/// Takes the job for this process, as long as the result is open. Throws when another has it.
isolate::sys::Fd hold_job(const std::string& folder, const std::string& id);
/// The user that the loop of this job runs as, who has nothing else.
std::uint32_t user_of_job(const std::string& id);

/// While it lives files are read with the rights of the job's user, and no others: all of a job's folder but job.json, lock and empty/ is written by its
/// loop, which hears models and tools, and a link there must not lead root anywhere. Does nothing where the loop has the caller's rights.
class AsUserOfJob {
 public:
  AsUserOfJob(const std::string& id, const std::string& folder);
  ~AsUserOfJob();
  AsUserOfJob(const AsUserOfJob&) = delete;
  AsUserOfJob& operator=(const AsUserOfJob&) = delete;
  /// The job's folder, whose own path this user cannot go.
  std::string path() const;
  std::string file(const std::string& name) const { return path() + "/" + name; }

 private:
  isolate::sys::Fd folder_;
  std::uint32_t user_;
};
std::string read_of_job(const std::string& id, const std::string& folder, const std::string& name);
/// Gives the folder to the job's user, but for what is the keeper's: that can be neither replaced nor removed by it (sticky(7), inode(7)).
void give_to_user_of_job(const std::string& folder, const std::string& id);

/// What every order to runner-agent has of it.
agent::Order order_of(const JobRecord& record, const std::string& folder);

/// Runs the loop to its end or to a question, and does for it what hands.h tells. Returns the exit code of the verb.
int keep_job(Context& context, agent::Order order, JobRecord record);

/// `runner WORDS`; throws with what it said when it fails.
void run_self(Context& context, const std::vector<std::string>& words);
/// The workspace of a job that was given none, and begins with a warm snapshot: what is mounted there must be something.
std::string volume_of_job(const std::string& id);
void remove_volume_of(Context& context, const std::string& id);  ///< fine when there is none
/// Removes a session of a job, if there is one, and the snapshot that it came from.
void end_job_session(Context& context, const std::string& id);
void end_sessions_of(Context& context, const std::string& job);  ///< all: its delegates' forks too

/// When there is a warm snapshot of just this expert, policy, flags and environment, the job will begin with it.
void find_warm(Context& context, const std::string& folder, JobRecord& record, const std::map<std::string, std::string>& environment);
std::string digest_environment(const std::string& salt, const std::map<std::string, std::string>& environment);

int job_run(Context& context);
int job_warm(Context& context);
int job_lock(Context& context);
int job_continue(Context& context);
int job_resume_from(Context& context);
int job_fork(Context& context);
int job_replay(Context& context);
int job_list(Context& context);
int job_show(Context& context);
int job_events(Context& context);
int job_cancel(Context& context);
int job_rm(Context& context);

}  // namespace runner::cli
