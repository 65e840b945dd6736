// The keeper of a job: it starts the session, the loop and the model's caller, and does for the loop the few things that take rights.
#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <optional>

#include "isolate/execute.h"
#include "isolate/sys/child.h"
#include "isolate/sys/error.h"
#include "isolate/sys/file.h"
#include "isolate/sys/socket.h"
#include "runner/agent/told.h"
#include "runner/cli/inside.h"
#include "runner/cli/job.h"
#include "runner/cli/sessions.h"
#include "runner/events/verify.h"
#include "runner/session/volumes.h"
#include "runner/snapshot/digest.h"
#include "runner/snapshot/store.h"

namespace runner::cli {

using namespace isolate::sys;
using namespace nlohmann::json_literals;

namespace {

constexpr int kRunnerFailed = 125;
constexpr std::int64_t kPatience = 5000;  // milliseconds

// A helper of ours with descriptors of its own, numbered from 3 on, and nothing else of ours but stdin, stdout and stderr.
Child start_helper(const std::string& program, std::vector<std::string> words, std::vector<int> fds, bool keeps_stdio) {
  words.insert(words.begin(), program);
  std::vector<char*> argv;
  for (std::string& each : words) argv.push_back(each.data());
  argv.push_back(nullptr);
  // Its environment has no key, and no variable that would make it load something.
  std::vector<std::string> kept;
  for (const char* name : {"SSL_CERT_FILE", "ASAN_OPTIONS", "UBSAN_OPTIONS"})
    if (const char* value = ::getenv(name)) kept.push_back(std::string(name) + "=" + value);
  std::vector<char*> env;
  for (std::string& each : kept) env.push_back(each.data());
  env.push_back(nullptr);
  pid_t keeper = ::getpid();
  Child child = clone_process(0);
  if (child.pid() != 0) return child;
  // First out of the way of where they go.
  for (int& fd : fds) fd = ::fcntl(fd, F_DUPFD, 64);
  for (std::size_t i = 0; i < fds.size(); ++i) ::dup2(fds[i], 3 + static_cast<int>(i));
  ::close_range(3 + static_cast<unsigned>(fds.size()), ~0u, 0);
  if (!keeps_stdio) {
    int nothing = ::open("/dev/null", O_RDWR);
    ::dup2(nothing, 0);
    ::dup2(nothing, 1);
  }
  isolate::reset_signals();
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (::getppid() != keeper) ::_exit(kRunnerFailed);
  ::execve(program.c_str(), argv.data(), env.data());
  ::_exit(127);
}

std::string said(const Fd& file) {
  std::string text(4096, '\0');
  ssize_t got = ::pread(file.get(), text.data(), text.size(), 0);
  text.resize(got > 0 ? static_cast<std::size_t>(got) : 0);
  while (!text.empty() && text.back() == '\n') text.pop_back();
  return text;
}

// Messages may be longer than a socket takes at once.
void send_text(int socket, const std::string& text) { send_message(socket, "t", {memory_file("message", text).get()}); }

/// No tool can be used: the job cannot go on now.
struct NoSession : std::runtime_error {
  using std::runtime_error::runtime_error;
};

class Keeper {
 public:
  Keeper(Context& context, agent::Order order, JobRecord record)
      : context_(context), order_(std::move(order)), record_(std::move(record)), folder_(order_.folder), signals_(ending_signals()) {}

  int run() {
    auto [ours, theirs] = socket_pair();
    socket_ = std::move(ours);
    agent_ = start_helper(helper_path("runner-agent"), {}, {theirs.get()}, true);
    theirs.close();
    send_text(socket_.get(), agent::encode(order_));
    auto needs = receive_message(socket_.get());
    if (!needs) return abandon();  // it has said what is wrong
    grant(agent::decode_needs(needs->bytes));
    return serve();
  }

 private:
  // Nothing has begun: nothing stays.
  int abandon() {
    int code = code_of(agent_.wait());
    if (order_.begins) remove_tree(folder_);
    return code;
  }

  static int code_of(const Exit& exit) { return exit.signal ? kRunnerFailed : exit.code; }

  void grant(const agent::Needs& needs) {
    agent::Grant grant;
    std::vector<std::string> missing;
    for (const std::string& name : needs.environment) {
      if (const char* value = ::getenv(name.c_str())) grant.environment[name] = value;
      else missing.push_back(name);
    }
    base_url_ = needs.base_url;
    bool calls = order_.replay.empty() && (needs.provider == "anthropic" || needs.provider == "openai");
    if (order_.cancel || order_.recorded_tools) missing.clear();  // no skill is started
    if (order_.cancel) calls = false;
    if (calls && !needs.key_env.empty()) {
      const char* key = ::getenv(needs.key_env.c_str());
      if (key) key_ = key;
      // A server of one's own on this machine may want none.
      bool local = base_url_.starts_with("http://127.") || base_url_.starts_with("http://localhost") || base_url_.starts_with("http://[::1]");
      if (!key && !local) missing.push_back(needs.key_env);
    }
    if (order_.warms) calls = false;
    header_ = needs.provider == "openai" ? "authorization:Bearer " : "x-api-key";
    if (!missing.empty()) {
      if (order_.begins) remove_tree(folder_);
      throw UsageError(fmt::format("job: {} must be set in the environment: {} wants {}", fmt::join(missing, ", "), needs.expert_file, missing.size() == 1 ? "it" : "them"));
    }
    grant.id = user_of_job(record_.id);
    if (order_.begins) {
      record_.expert_file = needs.expert_file;
      record_.expert_sha256 = needs.expert_sha256;
      record_.provider = needs.provider;
      record_.model = needs.model;
      if (record_.policy.empty()) record_.policy = needs.policy;
      if (order_.warms) record_.environment_sha256 = digest_environment(record_.id, grant.environment);
      else if (order_.replay.empty()) find_warm(context_, folder_, record_, grant.environment);
      write_job(folder_, record_);
      give_to_user_of_job(folder_, record_.id);
    }
    // The session and its helpers are started with what is left.
    for (const std::string& name : needs.environment) ::unsetenv(name.c_str());
    if (!needs.key_env.empty()) ::unsetenv(needs.key_env.c_str());
    // Its libraries take longer to be loaded than all else: it is ready when it is asked for.
    if (calls) next_model_ = start_model();
    send_text(socket_.get(), agent::encode(grant));
    if (!order_.cancel && !order_.recorded_tools) begin_session();
  }

  // Alongside, while the loop gets ready: with what it needs most of the time it waits for the kernel.
  void begin_session() {
    std::vector<std::string> words;
    auto entry = session::Entry::find(context_.directories(), record_.session);
    std::optional<session::State> state = entry ? entry->find_state() : std::nullopt;
    // A keeper that was killed may have left a start of it under way.
    for (std::int64_t end = now_ms() + 5000; entry && !state && now_ms() < end; ::usleep(2000)) {
      entry = session::Entry::find(context_.directories(), record_.session);
      if (entry) state = entry->find_state();
    }
    if (state && !state->ended) return;
    if (state && !state->suspended.empty()) {
      words = {"wake", record_.session};
    } else {
      if (state) run_self({"rm", "-f", record_.session});
      if (order_.begins && !record_.warm.empty()) {
        words = {"restore", "-d", "--output", "raw", "--from", record_.warm, "-v", record_.workspace + ":/workspace", record_.session};
        return start(words);
      }
      words = {"run", "-d", "--name", record_.session, "--output", "raw"};
      if (!record_.policy.empty()) words.insert(words.end(), {"--policy", record_.policy});
      if (!record_.workspace.empty()) words.insert(words.end(), {"-v", record_.workspace + ":/workspace"});
      words.insert(words.end(), record_.session_flags.begin(), record_.session_flags.end());
      words.insert(words.end(), {"-v", helper_path("runner-tools") + ":" + agent::kToolsInside + ":ro", "--", agent::kToolsInside, "--wait"});
    }
    start(words);
  }

  void start(const std::vector<std::string>& words) {
    starting_said_ = memory_file("said", "");
    starting_ = start_self(context_, words, starting_said_.get(), starting_said_.get());
  }

  void await_session() {
    if (!starting_.pid()) return;
    Exit exit = starting_.wait();
    // Another start of it may have been under way, of a keeper that was killed.
    if (exit == Exit{} || lives(record_.session)) return;
    if (order_.begins && !record_.warm.empty()) {
      report_error(context_.globals, fmt::format("job {}: the warm snapshot {} cannot be used, and its skills start anew: {}", record_.id, record_.warm, said(starting_said_)));
      record_.warm.clear();
      begin_session();
      return await_session();
    }
    throw NoSession(fmt::format("the session of the job cannot be started: {}", said(starting_said_)));
  }

  void run_self(const std::vector<std::string>& words) { cli::run_self(context_, words); }

  // One of this job's, whatever the loop may have become.
  void check_session(const std::string& id) const {
    if (id != record_.session && !id.starts_with(record_.session + ".")) throw std::runtime_error(fmt::format("session {} is none of this job", shown(id)));
    check_id(id);
  }

  bool lives(const std::string& id) {
    auto entry = session::Entry::find(context_.directories(), id);
    if (!entry) return false;
    session::settle(context_.directories(), context_.cgroups(), *entry);  // its supervisor may have been killed
    std::optional<session::State> state = entry->find_state();
    return state && !state->ended;
  }

  Fd connect(const std::string& id) {
    for (std::int64_t end = now_ms() + kPatience;; ::usleep(2000)) {
      if (id == record_.session) await_session();
      // One that has died: its files are the workspace's, and the rest begins anew.
      if (id == record_.session && !lives(id)) begin_session(), await_session();
      if (id != record_.session && !session::find_suspended(context_.directories(), id).empty()) run_self({"wake", id});
      try {
        return connect_to(context_.entry(id).file("control.sock"), SOCK_SEQPACKET);
      } catch (const SystemError& error) {
        // Its supervisor may be about to write how it ended.
        if ((error.code() != ENOENT && error.code() != ECONNREFUSED) || now_ms() > end) throw;
      }
    }
  }

  // The key of its log is as old as the session, and goes on with it through suspension.
  std::string identity_of(const std::string& id) const {
    return snapshot::sha256(events::find_key(context_.directories().session_data(id) + "/events.ndjson").value_or("")).substr(0, 16);
  }

  Fd start_model() {
    int pair[2];
    check(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), "make a socket pair");
    Fd ours(pair[0]), theirs(pair[1]);
    auto [key_out, key_in] = make_pipe();
    write_all(key_in.get(), key_);
    key_in.close();
    std::string empty = folder_ + "/empty", id = std::to_string(user_of_job(record_.id) + 1);
    std::vector<std::string> words{"--base-url", base_url_, "--header", header_, "--socket", "3", "--key-fd", "4"};
    if (::geteuid() == 0) words.insert(words.end(), {"--uid", id, "--gid", id, "--empty-root", empty});
    models_.push_back(start_helper(helper_path("runner-model"), words, {theirs.get(), key_out.get()}, false));
    std::erase_if(models_, [](Child& model) { return model.try_wait().has_value(); });
    return ours;
  }

  void fork_session(const std::string& from, const std::string& to) {
    std::string snapshot = to + ".origin";
    await_session();
    run_self({"snapshot", "create", "--leave-running", "--name", snapshot, from});
    run_self({"restore", "-d", "--output", "raw", "--from", snapshot, to});
  }

  void end_session_of(const std::string& id) {
    if (id == record_.session && starting_.pid()) starting_.wait();
    end_job_session(context_, id);
  }

  void answer(const std::string& request) {
    std::string verb = request.substr(0, request.find(' ')), rest = request.substr(std::min(request.size(), verb.size() + 1));
    std::string id = rest.substr(0, rest.find(' ')), to = rest.size() > id.size() ? rest.substr(id.size() + 1) : "";
    std::string text = "+";
    Fd fd;
    try {
      if (verb != "model") check_session(id);
      if (verb == "connect") fd = connect(id), text += identity_of(id);
      else if (verb == "log") fd = open_file(context_.directories().session_data(id) + "/events.ndjson", O_RDONLY | O_CLOEXEC);
      else if (verb == "model") fd = next_model_ ? std::move(next_model_) : start_model();
      else if (verb == "end") end_session_of(id);
      else if (verb == "keep") await_session(), run_self({"snapshot", "create", "--leave-running", "--name", id, id});
      else if (verb == "fork") check_session(to), fork_session(id, to);
      else if (verb == "suspend") {
        await_session();
        run_self({"suspend", id});
        text += suspension_of(id);
      } else throw std::runtime_error(fmt::format("{} is nothing that is done here", shown(verb)));
    } catch (const NoSession& error) {
      text = std::string("!") + error.what();
    } catch (const std::exception& error) {
      text = std::string("-") + error.what();
    }
    std::vector<int> fds;
    if (fd) fds.push_back(fd.get());
    try {
      send_message(socket_.get(), text.substr(0, 32 << 10), fds);
    } catch (const SystemError&) {
      // It has died meanwhile, which serve() sees.
    }
  }

  int serve() {
    bool listens = true;
    for (;;) {
      pollfd wait[] = {{listens ? socket_.get() : -1, POLLIN, 0}, {agent_.pidfd(), POLLIN, 0}, {signals_.get(), POLLIN, 0}};
      if (::poll(wait, 3, -1) == -1 && errno != EINTR) fail(errno, "wait for the job");
      if (wait[2].revents) {
        char block[128];
        (void)!::read(signals_.get(), block, sizeof block);
        agent_.signal(SIGTERM);
      }
      if (wait[0].revents) {
        if (auto request = receive_message(socket_.get())) answer(request->bytes);
        else listens = false;
      }
      if (!wait[1].revents) continue;
      Exit exit = agent_.wait();
      int code = code_of(exit);
      if (exit.signal && ended_on_disk()) code = told_code();
      else if (exit.signal)
        report_error(context_.globals, fmt::format("job {}: its process was killed by signal {}: `runner job continue {}` goes on where it was", record_.id, exit.signal, record_.id));
      models_.clear();
      constexpr int kPaused = 75;
      // Who comes back finds it as it is; one that has ended for good leaves nothing.
      bool stays = !order_.warms && (code == kPaused || (code == kRunnerFailed && begun_on_disk() && !ended_on_disk()));
      if (!stays) end_all();
      return code;
    }
  }

  // Whether the job has said its last word: a loop that was killed has not.
  bool ended_on_disk() const {
    if (!begun_on_disk()) return false;
    AsUserOfJob as(record_.id, folder_);
    return agent::has_ended(as.file("events.ndjson"));
  }
  bool begun_on_disk() const { return ::access((folder_ + "/events.ndjson").c_str(), F_OK) == 0; }
  // What the job itself has said of its end.
  int told_code() const {
    AsUserOfJob as(record_.id, folder_);
    auto event = nlohmann::json::parse(agent::last_event(as.file("events.ndjson")), nullptr, false);
    auto exit = event.is_object() ? event.value("/data/exit"_json_pointer, nlohmann::json()) : nlohmann::json();
    return exit.is_number_integer() ? exit.get<int>() & 0xff : kRunnerFailed;
  }

  void end_all() {
    if (starting_.pid()) starting_.wait();
    try {
      end_sessions_of(context_, record_.id);
    } catch (const std::exception& error) {
      report_error(context_.globals, error.what());
    }
  }

  Context& context_;
  agent::Order order_;
  JobRecord record_;
  std::string folder_, base_url_, header_, key_;
  Fd signals_, socket_, starting_said_, next_model_;
  Child agent_, starting_;
  std::vector<Child> models_;
};

}  // namespace

void run_self(Context& context, const std::vector<std::string>& words) {
  Fd words_said = memory_file("said", "");
  if (start_self(context, words, words_said.get(), words_said.get()).wait() != Exit{}) throw std::runtime_error(said(words_said));
}

void end_job_session(Context& context, const std::string& id) {
  if (session::Entry::find(context.directories(), id)) run_self(context, {"rm", "-f", id});
  snapshot::Store store(context.directories());
  if (std::string origin = id + ".origin"; store.find(origin)) store.remove(origin);
}

std::string volume_of_job(const std::string& id) { return id + ".workspace"; }

void remove_volume_of(Context& context, const std::string& id) {
  std::string name = volume_of_job(id);
  if (session::find_volume(context.directories(), name) && !session::remove_volume(context.directories(), name))
    throw std::runtime_error(fmt::format("volume {} is in use", name));
}

void end_sessions_of(Context& context, const std::string& job) {
  for (const std::string& id : session::list_entries(context.directories()))
    if (id == job || id.starts_with(job + ".")) end_job_session(context, id);
}

int keep_job(Context& context, agent::Order order, JobRecord record) { return Keeper(context, std::move(order), std::move(record)).run(); }

}  // namespace runner::cli
