// What the tests of this folder share: attacks inside and outside a sandbox, canaries, programs in the background, and a look
// at what is left on the host. ATTACK names the attacking program (default build/attack).
#pragma once

#include <sys/stat.h>
#include <sys/types.h>

#include <functional>
#include <map>
#include <string>
#include <vector>

#include "tests/support/command.h"

namespace security {

using tests::Args;
using tests::Folder;
using tests::Ran;

std::string attack_path();
std::string policies_path();                     ///< of the source tree
int count(const char* variable, int otherwise);  ///< of rounds, from the environment
Args concat(Args list, const Args& more);

/// The attack's "key=value" lines. A key that is not there is "(missing)", so that a comparison with it fails and tells why.
struct Facts {
  Ran ran;
  std::map<std::string, std::string> values;
  std::string operator[](const std::string& key) const;
};
Facts facts_of(Ran ran);
/// Checks each of these values, naming the key that differs.
void expect(const Facts& facts, const std::map<std::string, std::string>& wanted);
/// None of the paths could be opened for writing. Which error it is depends on the kernel's configuration and the order of its checks.
void expect_shut(const Facts& facts, const Args& paths);
std::vector<std::string> lines_with(const std::string& text, const std::string& start);

/// `attack WORDS` in a session with these flags; as a plain program of the host; behind `prefix` (unshare …).
Facts inside(const Args& flags, const Args& words, const tests::How& how = {});
Facts outside(const Args& words, const tests::How& how = {});
Facts outside_behind(const Args& prefix, const Args& words);
/// The arguments of runner for the first of them, without the verb's globals.
Args session(const Args& flags, const Args& command);

/// A file and a folder of the host that nothing may change. changed() is empty, or says what was.
class Canary : public Folder {
 public:
  Canary();
  std::string file() const { return *this / "secret"; }
  std::string dir() const { return *this / "folder"; }
  std::string changed() const;
  static constexpr const char* kSecret = "canary-5f1c9e77";

 private:
  std::string look() const;
  std::string before_;
};

/// Size, mode, owner and content of a file.
std::string fingerprint(const std::string& path);

/// A program in the background: killed and reaped at the end. Its output goes to files.
class Background {
 public:
  explicit Background(const Args& argv, const tests::How& how = {}, int out = -1);
  ~Background();
  Background(const Background&) = delete;
  pid_t pid() const { return pid_; }
  void signal(int number) const;
  int wait(int timeout_ms = 20'000);                                   ///< 128+n, or -1 when it goes on
  bool await(const std::string& text, int timeout_ms = 20'000) const;  ///< on its stdout
  std::string out() const { return tests::read(files_ / "out"); }
  std::string err() const { return tests::read(files_ / "err"); }

 private:
  Folder files_;
  pid_t pid_ = -1;
  int status_ = -1;
};

/// A bundle whose program is `attack` (in /bin/probe), and an id whose container is deleted by force at the end.
class Container : public tests::Bundle {
 public:
  explicit Container(const Args& argv) : Bundle(argv) {}
  ~Container();
  std::string id = tests::fresh_id();
  Ran run(const Args& flags = {}, int timeout_ms = 20'000) const;
  Ran start_detached() const;  ///< run -d; what it prints goes to BUNDLE/out and BUNDLE/err
  Ran exec(const Args& flags, const Args& command, int timeout_ms = 20'000) const;
};

std::int64_t now_ms();
void wait_ms(long milliseconds);
bool eventually(const std::function<bool()>& fact, int timeout_ms = 10'000);
bool alive(pid_t pid);

/// Everything on the host that is a trace of sandboxes with this in their id: cgroups, mounts, processes, files.
std::string remains_of(const std::string& id);
/// RUNNER_DATA of every runner that these tests start.
const std::string& data_dir();
std::vector<std::string> cgroup_mounts();

}  // namespace security
