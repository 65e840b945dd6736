// What tests against the real programs share: running them, folders that go away, root file systems with the probe in them.
//
// The environment names what is tested: RUNNER (default build/runner), PROBE (build/tests/probe), BUSYBOX (/usr/bin/busybox).
#pragma once

#include <sys/types.h>

#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

namespace tests {

using Args = std::vector<std::string>;

struct Ran {
  int code = -1;        // exit status; 128+n for a signal; -1 when it was killed for its time
  std::string out, err;
};

struct How {
  std::string input;                        // given on stdin, which is then closed
  std::map<std::string, std::string> env;   // added to ours
  std::string cwd;
  uid_t uid = 0;                            // 0: stays
  int timeout_ms = 60'000;
};

Ran run(const Args& argv, const How& how = {});
Ran runner(const Args& arguments, const How& how = {});  ///< RUNNER with these arguments, and a run root of this test program's own

std::string runner_path();
std::string probe_path();
std::string run_root();    ///< what runner() gives as --root

/// A folder under /tmp (or $TEST_TMP), removed with all that is in it.
class Folder {
 public:
  Folder();
  ~Folder();
  Folder(const Folder&) = delete;
  const std::string& path() const { return path_; }
  std::string operator/(const std::string& name) const { return path_ + "/" + name; }
  void write(const std::string& name, const std::string& text, unsigned mode = 0644) const;  ///< making folders on the way

 private:
  std::string path_;
};

std::string read(const std::string& path);  ///< empty when there is no such file
bool exists(const std::string& path);       ///< also a symbolic link that leads nowhere

/// A folder with rootfs/{bin/{sh,busybox,probe,...}, etc, proc, dev, sys, tmp}: static programs only.
class Rootfs : public Folder {
 public:
  Rootfs();
  std::string rootfs() const { return *this / "rootfs"; }
};

/// A bundle: a Rootfs and a config.json from `runner spec`, without terminal, with `change` applied to it.
class Bundle : public Rootfs {
 public:
  explicit Bundle(const Args& argv);
  nlohmann::json config;
  void save() const;                       ///< writes config.json; to be called after changes
  Ran run(const Args& flags = {}) const;   ///< runner run FLAGS -b THIS <fresh id>
};

std::string fresh_id();

using Events = std::vector<nlohmann::json>;
Events events_of(const std::string& lines);                              ///< throws on a line that is no JSON object
std::optional<nlohmann::json> find(const Events& events, const std::string& type);
std::string stdio_text(const Events& events, const std::string& stream = "stdout");
/// The last event; a test that has no session.ended fails by exception.
nlohmann::json ended(const Events& events);

bool is_root();
bool has_controller(const std::string& name);  ///< v1 or v2, and writable
bool on_cgroup_v2();                            ///< pure v2, as in the VM

}  // namespace tests

/// Leaves a test case that cannot run here, and says what is missing; scripts/test counts these lines.
#define SKIP_UNLESS(condition, missing)                         \
  do {                                                          \
    if (!(condition)) {                                         \
      std::printf("SKIPPED: %s\n", static_cast<const char*>(missing)); \
      return;                                                   \
    }                                                           \
  } while (false)
