// What every verb has at hand.
#pragma once

#include <string>
#include <vector>

#include "isolate/cgroup.h"
#include "isolate/link.h"
#include "runner/cli/options.h"
#include "runner/session/directories.h"
#include "runner/session/entry.h"

namespace runner::cli {

/// The flags that runc takes before its verb; here they may stand behind it too.
struct Globals {
  std::string root, log, log_format = "text", rootless, criu, cgroup_manager;
  bool debug = false, systemd_cgroup = false;

  void declare(Options& options);
};

/// Whether a global flag is followed by its value.
bool takes_value(const std::string& flag);

class Context {
 public:
  Globals globals;
  std::vector<std::string> arguments;  // of the verb, with the globals that stood before it

  /// Parses `options` together with the globals; everything below may be asked from then on.
  std::vector<std::string> parse(Options& options, bool stop_at_first = false);

  const session::Directories& directories();
  const isolate::CgroupHost& cgroups();

  /// The entry of a container or session. Throws the words that clients match: "container does not exist".
  session::Entry entry(const std::string& id);

 private:
  bool have_directories_ = false, have_cgroups_ = false;
  session::Directories directories_;
  isolate::CgroupHost cgroups_;
};

/// An id for a message: short, and without control characters.
std::string shown(const std::string& id);
/// Checks an id of the command line; throws UsageError.
void check_id(const std::string& id);

/// What the verbs of a session's life answer when they fail: design.md section 6.
inline constexpr int kSessionVerbFailed = 125;

/// For people on stderr, and for clients in the file of --log.
void report_error(const Globals& globals, const std::string& message);
void report_warning(const Globals& globals, const std::string& message);
/// What is done, where --debug asks: in the file of --log, else on stderr in the same form.
void report_debug(const Globals& globals, const std::string& message);

/// A set-up failure in one line: "container set-up failed at exec: exec: "x": ... (hint)".
std::string sentence(const isolate::SetupFailure& failure);

/// 127 when a program is missing, 126 when it cannot run, else 125.
int exit_code_for(const isolate::SetupFailure& failure);

/// <prefix>/libexec/runner/NAME, or beside this program in a build folder.
std::string helper_path(const std::string& name);
/// --criu, RUNNER_CRIU, the one that scripts/setup has put beside this program, or the system's.
std::string criu_program(const Globals& globals);
/// Where policies and seccomp profiles are looked up, first match first.
std::vector<std::string> policy_folders();

// One function a verb; each returns the exit status.
int check_main(Context& context);
int checkpoint_main(Context& context);
int code_main(Context& context);
int cp_main(Context& context);
int create_main(Context& context);
int delete_main(Context& context);
int attach_main(Context& context);
int events_main(Context& context);
int update_main(Context& context);
int install_main(Context& context);
int exec_main(Context& context);
int expose_main(Context& context);
int features_main(Context& context);
int inspect_main(Context& context);
int job_main(Context& context);
int kill_main(Context& context);
int list_main(Context& context);
int logs_main(Context& context);
int ls_main(Context& context);
int pause_main(Context& context);
int plan_main(Context& context);
int policy_main(Context& context);
int prune_main(Context& context);
int ps_main(Context& context);
int rename_main(Context& context);
int resume_main(Context& context);
int rm_main(Context& context);
int run_main(Context& context);
int restore_main(Context& context);
int snapshot_main(Context& context);
int suspend_main(Context& context);
int wake_main(Context& context);
int fork_main(Context& context);
int standby_main(Context& context);
int spec_main(Context& context);
int start_main(Context& context);
int state_main(Context& context);
int stop_main(Context& context);
int top_main(Context& context);
int volume_main(Context& context);
int wait_main(Context& context);
int watch_main(Context& context);

/// Milliseconds of a clock that only goes forward.
std::int64_t now_ms();

}  // namespace runner::cli
