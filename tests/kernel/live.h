// What the tests of this folder share beyond tests/support: sessions with the probe in them, programs that go on running,
// and a look at what is left on the host.
#pragma once

#include <sys/types.h>

#include <functional>
#include <map>
#include <string>

#include "tests/support/command.h"

namespace tests {

/// $RUNNER_DATA, or a folder that is made for this test program; every runner that is started gets it.
const std::string& data_dir();

/// The probe's lines: "key=value".
using Facts = std::map<std::string, std::string>;
Facts facts_of(const std::string& text);

/// One session to its end.
struct Session {
  std::string id;
  Ran ran;
  Events events;
  nlohmann::json end;   // data of session.ended
  std::string out, err; // of the program
  Facts facts;          // of `out`
  std::string result() const { return end.value("result", ""); }
};

/// runner run --rm --name <fresh> FLAGS -- COMMAND, where the probe is /probe inside. Throws when the events do not end as they must.
Session session(const Args& flags, const Args& command, const How& how = {});
/// The probe's own subcommand, in a session without flags.
Session probe(const Args& words);
/// The arguments of the above, for a runner that is started in another way.
Args session_arguments(const std::string& id, const Args& flags, const Args& command);

/// A program in the background, killed and reaped at the end of the test.
class Live {
 public:
  explicit Live(const Args& argv, const How& how = {});
  ~Live();
  Live(const Live&) = delete;

  pid_t pid() const { return pid_; }
  void send(const std::string& text);       ///< to its stdin
  void end_input();
  bool await(const std::string& text, int timeout_ms = 20'000);  ///< until stdout has it
  void signal(int number);
  int wait(int timeout_ms = 20'000);        ///< its status, 128+n, or -1 when it goes on
  std::string out, err;                     ///< so far

 private:
  bool read_some(int timeout_ms);
  pid_t pid_ = -1;
  int in_ = -1, out_ = -1, err_ = -1, status_ = -1;
};

/// `runner` with our run root, in the background.
Args runner_argv(const Args& arguments);

/// A container or session id that is deleted by force at the end of the test.
struct Box {
  std::string id = fresh_id();
  Box() = default;
  Box(const Box&) = delete;
  ~Box();
  nlohmann::json state() const;             ///< what `runner state` prints; null when it fails
  std::string status() const { return state().is_null() ? "" : state().value("status", ""); }
};

/// A session that was left running: `run -d`.
struct Away {
  Box box;
  explicit Away(const Args& flags = {}, const Args& command = {"/probe", "sleep", "60"});
};

/// runner ARGUMENTS whose output goes to files: what it leaves running would hold a pipe open.
Ran runner_apart(const Args& arguments, const Folder& folder, const How& how = {});
/// What the container has written to stdout since, and to stderr.
std::string written(const Folder& folder);

/// create or run -d, by name.
Ran create(const Bundle& bundle, const Box& box, const Args& flags = {});
Ran start(const Box& box);

/// Everything on the host that bears this id, one a line: empty when nothing is left.
std::string remains_of(const std::string& id);

bool eventually(const std::function<bool()>& fact, int timeout_ms = 10'000);
bool alive(pid_t pid);                      ///< and not a zombie
/// Processes whose /proc/PID/cmdline contains the text.
std::vector<pid_t> processes_with(const std::string& text);

}  // namespace tests
