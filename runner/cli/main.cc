// runner: find the verb, call it, turn what it throws into a message and an exit status.
#include <fcntl.h>
#include <fmt/format.h>
#include <malloc.h>
#include <stdio.h>

#include <cstring>

#include "commit.h"

#include "isolate/sys/error.h"
#include "runner/cli/context.h"

namespace {

using namespace runner::cli;

struct Verb {
  const char* name;
  int (*main)(Context&);
  const char* help;
  int failed = 1;  // its exit status when it throws
};

constexpr Verb kVerbs[] = {
    {"run", run_main, "run a command as a session (with --), or a bundle as a container"},
    {"exec", exec_main, "run a further command in a session or container"},
    {"attach", attach_main, "look on at the program of a session, and type into it"},
    {"logs", logs_main, "print the events of a session; -f follows, --verify proves that none is missing"},
    {"ls", ls_main, "list sessions: a table on a terminal, else JSON lines", kSessionVerbFailed},
    {"inspect", inspect_main, "print all that is known of sessions, as JSON", kSessionVerbFailed},
    {"stop", stop_main, "end sessions: a signal, time to heed it, then SIGKILL", kSessionVerbFailed},
    {"rm", rm_main, "remove sessions that have ended", kSessionVerbFailed},
    {"prune", prune_main, "remove all sessions that have ended", kSessionVerbFailed},
    {"rename", rename_main, "give a session that has ended another name", kSessionVerbFailed},
    {"restore", restore_main, "bring a session to life from a snapshot, or a container from a checkpoint"},
    {"standby", standby_main, "make sessions ready that go on from a snapshot when they are wanted", kSessionVerbFailed},
    {"fork", fork_main, "start many sessions from a snapshot, or from one that runs", kSessionVerbFailed},
    {"suspend", suspend_main, "put a session on disk", kSessionVerbFailed},
    {"wake", wake_main, "go on with a suspended session", kSessionVerbFailed},
    {"volume", volume_main, "ls, inspect, create, rm, prune: named folders that outlive sessions", kSessionVerbFailed},
    {"top", top_main, "show what running sessions use", kSessionVerbFailed},
    {"code", code_main, "run a cell in an interpreter that remembers", kSessionVerbFailed},
    {"snapshot", snapshot_main, "capture a session; list, verify, remove, export and import snapshots", kSessionVerbFailed},
    {"cp", cp_main, "copy files into a session or container, or out of it"},
    {"watch", watch_main, "print changes of files in a session as events"},
    {"expose", expose_main, "relay a socket of the host to a port inside a session"},
    {"wait", wait_main, "wait for the end of a session, a port, an answer or a line of output"},
    {"job", job_main, "run the agent loop: run, continue, list, show, events, cancel, rm", kSessionVerbFailed},
    {"plan", plan_main, "print the decision that `run` would carry out, as JSON"},
    {"policy", policy_main, "check FILE, explain NAME, or list policies"},
    {"check", check_main, "what this host can do, and what it lacks"},
    {"create", create_main, "create a container from a bundle"},
    {"start", start_main, "start a created container"},
    {"state", state_main, "print the state of a container"},
    {"kill", kill_main, "send a signal"},
    {"delete", delete_main, "delete a container or session"},
    {"list", list_main, "list containers and sessions"},
    {"events", events_main, "print what one uses, as runc does; --stats once"},
    {"ps", ps_main, "list the processes of one"},
    {"pause", pause_main, "freeze all processes"},
    {"resume", resume_main, "thaw all processes"},
    {"update", update_main, "give a container other limits"},
    {"checkpoint", checkpoint_main, "write the processes of a container into a folder"},
    {"spec", spec_main, "write a config.json to start from"},
    {"install", install_main, "print the configuration by which podman or containerd know this program"},
    {"features", features_main, "print what this runtime supports"},
};

void print_help() {
  fmt::print("usage: runner [global flags] VERB [flags] ...\n\n");
  for (const Verb& verb : kVerbs) fmt::print("  {:10} {}\n", verb.name, verb.help);
  fmt::print("\nrunner VERB --help tells more. Global flags: --root DIR --log FILE --log-format text|json --systemd-cgroup --debug\n");
}

// The first word that is no flag, nor the value of one.
int find_verb(int argc, char** argv) {
  for (int i = 1; i < argc; ++i) {
    if (argv[i][0] != '-') return i;
    if (takes_value(argv[i])) ++i;
  }
  return argc;
}

// Behind `wait`, --log is a line of the session's output; before it, and everywhere else, the global file of messages.
std::string own_name(const Verb& verb, const std::string& argument) {
  bool means_line = verb.main == wait_main && (argument == "--log" || argument.rfind("--log=", 0) == 0);
  return means_line ? "--line" + argument.substr(5) : argument;
}

int run_verb(const Verb& verb, Context& context) {
  try {
    int code = verb.main(context);
    // A list that a full disk has cut short must not look like all that there is.
    if (std::fflush(stdout) == EOF && code == 0) throw std::runtime_error(fmt::format("write to stdout: {}", isolate::sys::error_text(errno)));
    return code;
  } catch (const HelpAsked& help) {
    fmt::print("{}", help.what());
    return 0;
  } catch (const isolate::SetupError& error) {
    report_error(context.globals, sentence(error.failure()));
  } catch (const std::exception& error) {
    report_error(context.globals, error.what());
  }
  return verb.failed;
}

// A closed one would be taken by the next file that is opened, and handed to the sandbox as its own.
void open_standard_descriptors() {
  for (int fd = 0; fd < 3; ++fd)
    if (::fcntl(fd, F_GETFD) == -1) (void)::open("/dev/null", O_RDWR);
}

}  // namespace

int main(int argc, char** argv) {
  ::mallopt(M_TOP_PAD, 1 << 20);         // one brk(2) instead of twenty
  ::mallopt(M_MMAP_THRESHOLD, 8 << 20);  // a JSON document's memory is used again for the next one
  open_standard_descriptors();
  int at = find_verb(argc, argv);
  for (int i = 1; i < at; ++i) {
    if (std::strcmp(argv[i], "--version") == 0 || std::strcmp(argv[i], "-v") == 0) {
      fmt::print("runner version {}\ncommit: {}\nspec: 1.2.0\n", RUNNER_VERSION, RUNNER_COMMIT);
      return 0;
    }
    if (std::strcmp(argv[i], "--help") == 0 || std::strcmp(argv[i], "-h") == 0) at = argc;
  }
  if (at == argc) {
    print_help();
    return argc > 1 ? 0 : 1;
  }
  for (const Verb& verb : kVerbs) {
    if (std::strcmp(verb.name, argv[at]) != 0) continue;
    Context context;
    context.arguments.assign(argv + 1, argv + at);
    for (int i = at + 1; i < argc; ++i) context.arguments.push_back(own_name(verb, argv[i]));
    return run_verb(verb, context);
  }
  if (std::strcmp(argv[at], "help") == 0) return print_help(), 0;
  fmt::print(stderr, "runner: no verb '{}' (see `runner --help`)\n", argv[at]);
  return 1;
}
