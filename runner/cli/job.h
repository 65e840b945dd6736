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
  std::string id, expert, expert_file, expert_sha256, query, provider, model, policy, workspace, directory, started, session;
  std::vector<std::string> session_flags;  // of `run`, as the caller gave them
  bool interactive_delegates = true;
};

std::string jobs_folder(Context& context);
std::string job_folder(Context& context, const std::string& id);
/// Throws when there is none of that id.
JobRecord read_job(Context& context, const std::string& id);
void write_job(const std::string& folder, const JobRecord& record);
/// Whose process keeps it now; 0: nobody.
pid_t keeper_of(const std::string& folder);
/// Takes the job for this process, as long as the result is open. Throws when another has it.
isolate::sys::Fd hold_job(const std::string& folder, const std::string& id);
/// The user that the loop of this job runs as, who has nothing else.
std::uint32_t user_of_job(const std::string& id);

/// What every order to runner-agent has of it.
agent::Order order_of(const JobRecord& record, const std::string& folder);

/// Runs the loop to its end or to a question, and does for it what hands.h tells. Returns the exit code of the verb.
int keep_job(Context& context, agent::Order order, JobRecord record);

int job_run(Context& context);
int job_continue(Context& context);
int job_replay(Context& context);
int job_list(Context& context);
int job_show(Context& context);
int job_events(Context& context);
int job_cancel(Context& context);
int job_rm(Context& context);

}  // namespace runner::cli
