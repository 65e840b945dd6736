// The two forms of `run`, and what `plan` shares with the session's.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "runner/cli/context.h"
#include "runner/config/diagnostics.h"
#include "runner/plan/config.h"
#include "runner/plan/session_plan.h"
#include "runner/snapshot/restore.h"
#include "runner/session/volumes.h"

namespace runner::cli {

std::string random_id(const std::string& prefix);  ///< "s-7f3a09c1"

int run_container(Context& context);
int run_session(Context& context, const std::vector<std::string>& command);

/// The flags of `run -- COMMAND`, with docker's meaning.
struct SessionFlags {
  std::string policy = "default", rootfs = "host", workdir, user, memory, cpus, pids, network, name, timeout, sleep_after, entrypoint, hostname, output,
              cidfile, sleep_to = "disk";
  std::vector<std::string> volumes, mounts, tmpfs, env, env_files, cap_drop, cap_add, security, storage, labels, log_options;
  std::string scrollback;
  bool rm = false, interactive = false, terminal = false, detach = false, read_only = false, init = false;
  int events_fd = -1;

  void declare(Options& options);
  /// What was asked for, with every mistake in `wrong`. `id` and the terminal's size are filled in by the caller.
  plan::Config to_config(std::vector<std::string> command, Diagnostics& wrong) const;
};

/// The snapshot that a session comes out of.
struct Origin {
  std::optional<snapshot::Snapshot> snapshot;  // until the session has come out of it: it is locked as long as that is there
  std::string criu;  // the program
  snapshot::Verify verify = snapshot::Verify::Metadata;
  bool cold = false;          // not its processes: its files, with the command begun anew
  bool standby = false;       // it waits, all but restored, for the first request
  session::Entry* wakes = nullptr;  // the entry of a suspended session, locked, which goes on; null: a new session
  bool other_workspace = false;     // the caller brings one: what the snapshot has of it is not put there
};

/// The whole life of a session, started or restored; `arguments` are those of `run`, as a snapshot keeps them.
int live(Context& context, const SessionFlags& flags, const std::vector<std::string>& command, const std::vector<std::string>& arguments,
         Origin* origin);
/// --scrollback; throws UsageError. 0: as usual.
std::uint64_t read_scrollback(const std::string& text, bool terminal);

/// Splits the arguments at the first "--"; empty when there is none.
std::optional<std::vector<std::string>> take_command(std::vector<std::string>& arguments);

/// Config, policy and host to a plan; throws UsageError with all that is wrong. `upper`, `work` and `lower` are where the session's
/// layers will be. `first_id` is of the session's range. `volumes` gets those that the plan names, made if need be; without it nothing is
/// made.
/// The file of a policy's seccomp profile.
std::string find_profile(const std::string& name);

plan::SessionPlan decide(const SessionFlags& flags, plan::Config config, const session::Directories& directories, std::uint32_t first_id,
                         std::string& rootfs, std::vector<session::VolumeLease>* volumes = nullptr);

}  // namespace runner::cli
