// Parts of a session are killed at random moments. Whatever it was: what must live on does, what must not is gone, and the next command
// on that name gives a right answer.
//
// KILL_SEED=N repeats a run, as far as the machine's own timing goes; KILL_SECONDS=N makes it longer.
#include <doctest/doctest.h>
#include <signal.h>
#include <unistd.h>

#include <chrono>
#include <climits>
#include <filesystem>
#include <memory>
#include <random>

#include "tests/kernel/live.h"

using namespace tests;
using nlohmann::json;

namespace {

using Clock = std::chrono::steady_clock;

std::uint64_t from_environment(const char* name, std::uint64_t otherwise) {
  const char* value = std::getenv(name);
  return value ? std::strtoull(value, nullptr, 10) : otherwise;
}

std::string network_of(pid_t pid) {
  char name[64] = "";
  ssize_t size = ::readlink(("/proc/" + std::to_string(pid) + "/ns/net").c_str(), name, sizeof name - 1);
  return std::string(name, static_cast<std::size_t>(std::max<ssize_t>(size, 0)));
}

bool somebody_in(const std::string& network) {
  std::error_code ignored;
  for (const auto& entry : std::filesystem::directory_iterator("/proc", ignored)) {
    std::string name = entry.path().filename();
    if (name.find_first_not_of("0123456789") == std::string::npos && network_of(std::stoi(name)) == network) return true;
  }
  return false;
}

// Files of its own on which loop devices lie.
std::string loops_of(const std::string& id) {
  std::string found;
  for (const auto& entry : std::filesystem::directory_iterator("/sys/block"))
    if (std::string file = read(entry.path() / "loop/backing_file"); file.find(id) != std::string::npos) found += file;
  return found;
}

enum class Victim { Supervisor, Init, Exec, Terminal, Attach, Call, Service, Starter, Caller, Remover };
constexpr const char* kNames[] = {"supervisor", "runner-init", "exec client", "exec -t client", "attach client", "a call's process", "a service's process",
                                  "the run -d that starts it", "an exec that is just beginning", "an rm -f"};
constexpr unsigned kVictims = std::size(kNames);

// A session with everything in it. Each of its processes has a number of its own to sleep for, by which it is found.
class Round {
 public:
  Round(std::mt19937_64& random, int number) : victim_(static_cast<Victim>(random() % kVictims)), random_(random), mark_(std::to_string(400000 + ::getpid() % 10000 * 10) + "." + std::to_string(number)) {
    foreground_ = victim_ != Victim::Starter && pick(2) == 0;
    removes_ = pick(3) == 0;
    Args flags{"run", "--name", box_.id};
    if (removes_) flags.push_back("--rm");
    if (!foreground_) flags.push_back("-d");
    limited_ = pick(8) == 0 && ::access("/dev/loop-control", W_OK) == 0;
    if (limited_) flags.insert(flags.end(), {"--storage-opt", "size=16M"});
    flags.insert(flags.end(), {"--", "sh", "-c", "echo up; exec " + sleeper(1)});
    if (foreground_ || victim_ == Victim::Starter) {
      run_ = std::make_unique<Live>(runner_argv(flags));
    } else {
      Ran ran = runner(flags, {.timeout_ms = 20'000});
      CHECK_MESSAGE(ran.code == 0, ran.err);
    }
  }

  void play() {
    Victim victim = victim_;
    std::string what = std::string(kNames[static_cast<int>(victim)]) + (foreground_ ? ", in the foreground" : ", detached") + (removes_ ? ", --rm" : "") +
                       (limited_ ? ", with a disk of its own" : "");
    CAPTURE(what);
    if (victim == Victim::Starter) return start_killed();
    // Half of the time the session is complete; else some part is killed while others come.
    bool early = foreground_ && victim <= Victim::Init && pick(3) == 0;
    if (early) {
      pause(pick(25'000));
    } else {
      fill();
      pause(pick(60'000));
    }
    pid_t target = find(victim);
    std::string network = target ? network_of(init()) : "";
    if (target) ::kill(target, SIGKILL);
    bool ends = victim == Victim::Supervisor || victim == Victim::Init;
    if (victim == Victim::Remover) return clean(network);
    if (!early && target == 0) FAIL_CHECK("nothing to kill");
    if (early) pause(pick(30'000));
    if (target && ends) dead(victim, early);
    if (!ends) lives(victim);
    clean(network);
  }

 private:
  unsigned pick(unsigned below) { return static_cast<unsigned>(random_() % below); }
  static void pause(unsigned microseconds) { ::usleep(microseconds); }
  std::string sleeper(int which) const { return "sleep " + mark_ + std::to_string(which); }

  void fill() {
    if (run_) CHECK(run_->await("\"text\":\"up\\n\""));
    Ran service = runner({"exec", "-d", "--service", "web", "--restart", pick(2) ? "always" : "no", box_.id, "--", "sh", "-c", sleeper(2) + " & " + sleeper(2)});
    CHECK_MESSAGE(service.code == 0, service.err);
    call_ = std::make_unique<Live>(runner_argv({"exec", box_.id, "--", "sh", "-c", "echo called; " + sleeper(3) + "; exit 5"}));
    terminal_ = std::make_unique<Live>(runner_argv({"exec", "-t", box_.id, "--", "sh", "-c", "echo shown; " + sleeper(4)}));
    look_ = std::make_unique<Live>(runner_argv({"attach", "--no-stdin", box_.id}));
    CHECK(call_->await("called"));
    CHECK(terminal_->await("shown"));
    CHECK(look_->await("up"));
  }

  json state() const {
    json parsed = json::parse(read(run_root() + "/" + box_.id + "/state.json"), nullptr, false);
    return parsed.is_object() ? parsed : json::object();
  }
  pid_t init() const { return state().value("pid", 0); }
  pid_t parent_of(pid_t pid) const {
    std::string stat = read("/proc/" + std::to_string(pid) + "/stat");
    std::size_t end = stat.rfind(") ");
    return end == std::string::npos ? 0 : std::atoi(stat.c_str() + end + 4);
  }
  pid_t one_of(int which) const {
    // The name of the command is part of its shell's, too: any of them will do.
    auto all = processes_with(mark_ + std::to_string(which));
    for (pid_t pid : all)
      if (network_of(pid) == network_of(init())) return pid;
    return 0;
  }
  // Whether it got as far as to leave a session or not: the name can be asked about, and freed.
  void start_killed() {
    pause(pick(limited_ ? 60'000 : 25'000));
    run_->signal(SIGKILL);
    run_->wait(5'000);
    next(false);
    clean("");
  }
  // Begun, and killed at some moment of its way.
  pid_t begun(const Args& arguments, unsigned longest) {
    passing_ = std::make_unique<Live>(runner_argv(arguments));
    pause(pick(longest));
    return passing_->pid();
  }

  pid_t find(Victim victim) {
    switch (victim) {
      case Victim::Starter: return 0;
      case Victim::Caller: return begun({"exec", box_.id, "--", "sh", "-c", sleeper(5)}, 12'000);
      case Victim::Remover: return begun({"rm", "-f", box_.id}, 12'000);
      case Victim::Supervisor: return run_ ? run_->pid() : init() ? parent_of(init()) : 0;
      case Victim::Init: return init();
      case Victim::Exec: return call_->pid();
      case Victim::Terminal: return terminal_->pid();
      case Victim::Attach: return look_->pid();
      case Victim::Call: return one_of(3);
      case Victim::Service: return one_of(2);
    }
    return 0;
  }

  bool quiet(int which) const {
    for (pid_t pid : processes_with(mark_ + std::to_string(which)))
      if (network_of(pid) != network_of(::getpid())) return false;
    return true;
  }

  // The session must end at once with all that is in it, and whoever waits for a part of it must hear so.
  void dead(Victim victim, bool early) {
    for (int which : {1, 2, 3, 4}) CHECK(eventually([&] { return quiet(which); }, 500 * 4));
    for (auto* client : {call_.get(), terminal_.get(), look_.get()})
      if (client) CHECK(client->wait(5'000) > 0);
    if (run_) {
      int code = run_->wait(5'000);
      CHECK_MESSAGE((code == 137 || (early && victim == Victim::Init && code == 125)), code);  // 125: before the program began
    }
    next();
  }

  // Whatever somebody asks first, he gets the same answer.
  void next(bool stopped = true) {
    unsigned which = pick(6);
    CAPTURE(which);
    if (which == 0) {
      Ran ran = runner({"ls", "-a", "--format", "json", "--filter", "name=" + box_.id});
      CHECK(ran.code == 0);
      if (!ran.out.empty() && stopped) CHECK(json::parse(ran.out)["status"] == "stopped");
    } else if (which == 1) {
      Ran ran = runner({"exec", box_.id, "--", "true"});
      CHECK((ran.code != 0 || !stopped));
    } else if (which == 2) {
      Ran ran = runner({"inspect", box_.id});
      json all = json::parse(ran.out);
      if (!all.empty() && stopped) CHECK(all[0]["status"] == "stopped");
      if (!all.empty() && stopped) CHECK(all[0]["result"].is_string());
      CHECK((ran.code == 0) == !all.empty());
    } else if (which == 3) {
      CHECK(runner({"stop", box_.id}, {.timeout_ms = 8'000}).code >= 0);  // it heeds SIGTERM, whatever had begun
    } else if (which == 4) {
      // The name is free when it removed itself; one that has only ended keeps it.
      Ran ran = runner({"run", "--rm", "--name", box_.id, "--", "true"});
      CHECK_MESSAGE((ran.code == 0 || (ran.code == 125 && ran.err.find("in use") != std::string::npos)), ran.err);
    } else {
      CHECK((runner({"wait", "--timeout", stopped ? "5s" : "100ms", box_.id}).code != 124 || !stopped));
    }
  }

  // The others in the session do not notice.
  void lives(Victim victim) {
    Ran alive = runner({"exec", box_.id, "--", "echo", "alive"}, {.timeout_ms = 20'000});
    CHECK_MESSAGE(alive.out == "alive\n", alive.err);
    if (victim == Victim::Exec) CHECK(eventually([&] { return quiet(3); }));  // cancelled with all that it started
    if (victim == Victim::Caller) CHECK(eventually([&] { return quiet(5); }));
    if (victim == Victim::Terminal) CHECK(eventually([&] { return quiet(4); }));
    if (victim == Victim::Call) {
      int code = call_->wait(5'000);
      CHECK_MESSAGE((code == 137 || code == 5), code);  // the shell, or what it waited for
    } else if (victim != Victim::Exec) {
      CHECK(call_->wait(0) == -1);
    }
    if (victim == Victim::Attach) {
      Live again(runner_argv({"attach", "--no-stdin", box_.id}));
      CHECK(again.await("up"));
    }
    CHECK(!quiet(1));
  }

  void clean(const std::string& network) {
    Ran removed = runner({"rm", "-f", box_.id}, {.timeout_ms = 20'000});
    CHECK_MESSAGE(removed.code == 0, removed.err);
    for (int which : {1, 2, 3, 4, 5}) CHECK(eventually([&] { return quiet(which); }));
    for (auto* client : {run_.get(), call_.get(), terminal_.get(), look_.get()})
      if (client) CHECK(client->wait(5'000) >= 0);
    CHECK(remains_of(box_.id) == "");
    CHECK(eventually([&] { return loops_of(box_.id).empty(); }));
    if (!network.empty() && network != network_of(::getpid())) CHECK(eventually([&] { return !somebody_in(network); }));
    CHECK(runner({"ls", "-aq", "--filter", "name=" + box_.id}).out.empty());
  }

  Victim victim_;
  std::mt19937_64& random_;
  std::string mark_;
  Box box_;
  bool foreground_ = false, removes_ = false, limited_ = false;
  std::unique_ptr<Live> run_, call_, terminal_, look_, passing_;
};

}  // namespace

TEST_SUITE("session killing") {
  TEST_CASE("parts of sessions die at random moments, and nothing is left of them") {
    SKIP_UNLESS(is_root(), "root");
    std::uint64_t seed = from_environment("KILL_SEED", static_cast<std::uint64_t>(Clock::now().time_since_epoch().count()) % 1'000'000);
    std::printf("KILL_SEED=%llu\n", static_cast<unsigned long long>(seed));
    std::mt19937_64 random(seed);
    auto end = Clock::now() + std::chrono::seconds(from_environment("KILL_SECONDS", 20));
    int rounds = 0;
    for (; Clock::now() < end; ++rounds) {
      CAPTURE(rounds);
      Round round(random, rounds);
      round.play();
    }
    std::printf("%d rounds\n", rounds);
    CHECK(rounds > 5);
    // What a killed supervisor left aside is gone with the next start.
    for (const auto& entry : std::filesystem::directory_iterator(run_root())) CHECK_MESSAGE(entry.path().filename().string().rfind(".new-", 0) != 0, entry.path().string());
  }
}
