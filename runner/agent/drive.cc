#include "runner/agent/drive.h"

#include <fmt/format.h>
#include <poll.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/time.h>
#include <unistd.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "isolate/sys/error.h"
#include "isolate/sys/file.h"
#include "runner/agent/branch.h"
#include "runner/agent/http_provider.h"
#include "runner/agent/loop.h"
#include "runner/agent/told.h"
#include "runner/agent/trouble.h"
#include "runner/events/verify.h"

namespace runner::agent {

using json = nlohmann::json;

namespace {

std::atomic<int> signalled = 0;
int interrupt = -1;  // an eventfd: what waits for a model hears of it there

void take_signal(int number) {
  // The second one does not wait for anybody.
  if (number != SIGALRM && signalled.exchange(number) != 0) ::_exit(kIncomplete);
  std::uint64_t one = 1;
  (void)!::write(interrupt, &one, sizeof one);
}

// What a person may answer: the kind of each question, by key of its call.
std::map<std::string, std::string> open_questions(const Job& job) {
  std::map<std::string, std::string> open;
  for (const auto& [id, run] : job.runs)
    if (run.turn && run.result.empty())
      for (const Call& call : run.turn->calls)
        if (call.state == CallState::AwaitingCaller) open[call.key] = call.kind;
  return open;
}

// "ERA NAME VERSION", of the journal. What it has said and was asked since is found out when it is spoken to.
Service read_greeting(const std::string& text) {
  std::size_t first = text.find(' '), second = text.find(' ', first + 1);
  if (first == std::string::npos || second == std::string::npos) throw std::runtime_error(fmt::format("the journal has '{}', which is no greeting of a server", clipped(text, 100)));
  return {text.substr(first + 1, second - first - 1), text.substr(0, first), text.substr(second + 1), 0, 1};
}

// Against what is asked: agent-loop.md §4.1.
void check_answers(const std::map<std::string, std::string>& open, const std::map<std::string, Answer>& answers) {
  std::string names;
  for (const auto& [key, kind] : open) names += (names.empty() ? "" : ", ") + key;
  for (const auto& [key, answer] : answers) {
    auto question = open.find(key);
    if (question == open.end()) throw std::runtime_error(fmt::format("an answer names call {}, which asks nothing; open are: {}", key, names.empty() ? "none" : names));
    if (answer.content.starts_with("{") && question->second != "mcp")
      throw std::runtime_error(fmt::format("the content of the answer to call {} must be an array: an object answers what an MCP server asks", key));
  }
}

class Drive {
 public:
  Drive(const ExpertFile& file, Assignment& given, const std::string& folder, Hands& hands, const std::string& traceparent)
      : file_(file), given_(given), store_(folder), hands_(hands),
        ledger_(store_, given.begins ? events::Writer(make_writer(folder, given, traceparent)) : events::Writer(take_writer(folder, given, traceparent))) {}

  int run() {
    if (given_.locks) return lock();
    if (given_.warms) return warm();
    if (given_.begins)
      ledger_.event(events::JobStarted{given_.job, given_.expert, {store_.payload(given_.query)}, file_.provider.name, model(), given_.expert_sha256, given_.runner_version, {}});
    else take_up();
    if (!given_.resume_from.empty()) branch_off(store_, Journal(store_.file("journal")), ledger_, given_.job, given_.resume_from);
    for (;;) {
      if (std::optional<int> code = pass()) return *code;
      if (!answers_from_stdin() && !signalled) return pause();
    }
  }

 private:
  static events::Writer with_stdout(events::Writer writer) {
    writer.add(std::make_unique<events::FdSink>(STDOUT_FILENO));
    return writer;
  }
  static events::Writer make_writer(const std::string& folder, const Assignment& a, const std::string& trace) {
    return with_stdout(events::Writer::create(folder + "/events.ndjson", "runner/job/" + a.job, trace));
  }
  static events::Writer take_writer(const std::string& folder, const Assignment& a, const std::string& trace) {
    events::cut_uncovered(folder + "/events.ndjson");
    return with_stdout(events::Writer::resume(folder + "/events.ndjson", "runner/job/" + a.job, trace));
  }

  // What was durable and not announced yet when a process died is done again, from the journal: so the record has all of it, and nothing twice.
  void take_up() {
    Told told = read_told(store_.file("events.ndjson"));
    if (told.paused || !given_.resume_from.empty()) return;
    if (store_.head() != told.checkpoint) store_.set_head(told.checkpoint);
    ledger_.leave_out(std::move(told.behind));
  }

  std::string model() const {
    const Expert& expert = file_.experts.at(given_.expert);
    return expert.model.empty() ? file_.model : expert.model;
  }

  std::unique_ptr<Provider> provider_for(const Run& run) {
    if (given_.recording) return replay_provider(*given_.recording, run);
    if (file_.provider.name == "script") return script_provider(given_.script, run);
    HttpProvider::Setup setup;
    setup.socket = hands_.model();
    setup.api = file_.provider.name == "openai" ? Api::OpenAi : Api::Anthropic;
    setup.base_url = file_.provider.base_url;
    setup.total_ms = file_.timeout;
    setup.cancel_fd = interrupt;
    return std::make_unique<HttpProvider>(std::move(setup));
  }

  // From what is on the disk to the end or to a question. Empty: it waits.
  std::optional<int> pass() {
    Job job = store_.load(given_.job);
    if (job.head.empty()) job.services = store_.services();
    check_answers(open_questions(job), given_.answers);
    forks_.clear();
    Journal journal(store_.file("journal"));
    Context context{file_, store_, journal, ledger_, hands_, job};
    context.signal = &signalled;
    context.session = given_.session;
    context.started = given_.started;
    context.environment = given_.environment;
    context.answers = std::exchange(given_.answers, {});
    context.lock = &given_.lock;
    context.deltas = given_.deltas;
    context.interactive_delegates = given_.interactive_delegates;
    context.wall_before = job.wall_ms;
    context.make_provider = [this](const Run& run) { return provider_for(run); };
    if (auto left = context.wall_left()) {
      itimerval timer{{}, {static_cast<time_t>(*left / 1000), static_cast<suseconds_t>(*left % 1000 * 1000 + 1)}};
      ::setitimer(ITIMER_REAL, &timer, nullptr);
    }
    for (const JournalLine& line : journal.before()) {
      if (line.kind == 'G') job.generations = std::max<std::uint64_t>(job.generations, context.recorded[line.key] = std::stoull(line.rest));
      else if (line.kind == 'S' && !job.services.count(line.key)) job.services[line.key] = read_greeting(line.rest);
      else context.results[std::string(1, line.kind) + " " + line.key] = line.rest;
    }
    if (given_.recorded_tools) context.recorded_tools = &*given_.recording;
    Run& root = job.runs["r1"];
    if (root.id.empty()) root.id = "r1", root.expert = given_.expert, root.query = given_.query;
    std::string result, reason;
    bool ended_before = !root.result.empty();  // and whoever was here may not have said so
    try {
      if (root.result.empty() && Loop(context, root).go() == Loop::End::Waiting) {
        ledger_.drain();
        questions_ = open_questions(job);
        for (const auto& [id, run] : job.runs)
          if (run.result.empty() && !run.session.empty()) forks_.push_back(run.session);
        return std::nullopt;
      }
      result = root.result;
      if (result != "success") reason = root.text;
      if (ended_before) tell_end(context, root);
    } catch (const Cancelled& cancelled) {
      result = "cancelled", reason = cancelled.what();
    } catch (const OutOfTime& over) {
      result = "timeout", reason = over.what();
    } catch (const std::exception& error) {
      result = "runner-error", reason = error.what();
    }
    // These two are for good; what this process could not do, another may.
    if (root.result.empty() && (result == "cancelled" || result == "timeout")) {
      root.result = result;
      root.text = reason;
      save(context, root, "ended", {});
      ledger_.event(events::RunEnded{root.id, result, {}, reason, root.step, "untrusted"});
    }
    int code = result == "success" ? kCompleted : result == "timeout" ? kTimedOut : result == "runner-error" ? kRunnerFailed : kIncomplete;
    events::JobEnded ended{given_.job, result, code, {}, job.steps, told(job.usage), {}, context.wall_ms()};
    if (!reason.empty()) ended.reason = reason;
    if (job.cost) ended.cost = job.cost;
    ledger_.event(ended);
    ledger_.drain();
    if (code) fmt::print(stderr, "runner: job {} ended: {}: {}\n", given_.job, result, clipped(reason, 2000));
    return code;
  }

  // No job: the skills of the expert as they are before its first step. Those of delegates are started by them.
  int warm() {
    Job job;
    start_skills(job, "r1", given_.expert, &given_.lock);
    store_.write_services(job.services);
    hands_.keep(given_.session);
    return kCompleted;
  }

  // What the skills of the expert and its delegates offer today, beside what the lock has of others.
  int lock() {
    Lock lock = given_.lock;
    int number = 0;
    for (const std::string& name : reachable(file_, given_.expert)) {
      Job job;
      std::string run = fmt::format("r{}", ++number);
      start_skills(job, run, name, nullptr);
      lock.experts.erase(name);
      auto offered = store_.find_tools(run).value();
      for (const auto& [skill, tools] : offered)
        lock.experts[name][skill] = lock_skill(std::get<McpStdioSkill>(file_.experts.at(name).skills.at(skill).is), era_named(job.services.at(run + "/" + skill).era), tools);
    }
    isolate::sys::replace_file(store_.file("experts.lock"), write_lock(lock), 0600);
    return kCompleted;
  }

  void start_skills(Job& job, const std::string& run, const std::string& expert, const Lock* lock) {
    Journal journal(store_.file("journal"));
    Context context{file_, store_, journal, ledger_, hands_, job};
    context.signal = &signalled;
    context.session = given_.session;
    context.environment = given_.environment;
    context.lock = lock;
    context.starts_all = true;
    Run root;
    root.id = run, root.expert = expert;
    Toolbox tools(context, root, file_.experts.at(expert), given_.session);
    tools.make_ready();
    tools.let_go();
  }

  // A caller who stays: one answer a line. False: he has left.
  bool answers_from_stdin() {
    if (!given_.answers_on_stdin) return false;
    while (auto line = next_line()) {
      if (line->empty()) continue;
      try {
        std::map<std::string, Answer> more = read_answers(*line);
        check_answers(questions_, more);
        for (auto& [key, answer] : more)
          if (!given_.answers.emplace(key, std::move(answer)).second) throw std::runtime_error(fmt::format("call {} was answered already", key));
      } catch (const std::exception& error) {
        fmt::print(stderr, "runner: an answer on stdin was not taken: {}\n", error.what());
        continue;
      }
      if (given_.answers.size() >= questions_.size()) return true;
    }
    return !given_.answers.empty();
  }

  // Of stdin; empty at its end, and when the job is to end.
  std::optional<std::string> next_line() {
    constexpr std::size_t kLongestLine = 16 << 20;
    for (;;) {
      if (std::size_t end = typed_.find('\n'); end != std::string::npos) {
        std::string line = typed_.substr(0, end);
        typed_.erase(0, end + 1);
        return line;
      }
      if (signalled || typed_.size() > kLongestLine) return std::nullopt;
      pollfd ready{STDIN_FILENO, POLLIN, 0};
      if (::poll(&ready, 1, 200) <= 0) continue;
      char block[65536];
      ssize_t got = ::read(STDIN_FILENO, block, sizeof block);
      if (got == -1 && errno == EINTR) continue;
      if (got <= 0) return typed_.empty() ? std::nullopt : std::optional(std::exchange(typed_, {}));
      typed_.append(block, static_cast<std::size_t>(got));
    }
  }

  int pause() {
    auto began = supervise::Clock::now();
    events::JobPaused paused{given_.job, questions_.size(), {}, {}, 0};
    try {
      paused.snapshot = hands_.suspend(given_.session);
      for (const std::string& fork : forks_) hands_.suspend(fork);
    } catch (const std::exception& error) {
      paused.unsuspended = error.what();
      hands_.end(given_.session);
    }
    paused.ms = supervise::milliseconds_since(began);
    ledger_.event(paused);
    ledger_.drain();
    return kPaused;
  }

  const ExpertFile& file_;
  Assignment& given_;
  Store store_;
  Hands& hands_;
  Ledger ledger_;
  // While it waits:
  std::map<std::string, std::string> questions_;
  std::vector<std::string> forks_;  // sessions of delegates
  std::string typed_;
};

Answer read_answer(const json& j, std::string& key) {
  if (!j.is_object() || !j.contains("call") || !j.at("call").is_string()) throw std::runtime_error(R"(an answer is {"call":"t2","ok":true,"content":[...]}: it must name its call)");
  key = j.at("call");
  Answer answer;
  if (!j.contains("ok") || !j.at("ok").is_boolean()) throw std::runtime_error(fmt::format("the answer to call {} does not say whether it is ok", key));
  answer.ok = j.at("ok");
  if (j.contains("content")) {
    const json& content = j.at("content");
    for (const json& part : content.is_array() ? content : json::array({json()}))
      if (!content.is_object() && (!part.is_object() || part.value("type", "text") != "text" || !part.contains("text") || !part.at("text").is_string()))
        throw std::runtime_error(fmt::format(R"(the content of the answer to call {} must be an array of {{"type":"text","text":...}})", key));
    answer.content = content.dump();
  }
  for (const auto& [name, value] : j.items())
    if (name != "call" && name != "ok" && name != "content") throw std::runtime_error(fmt::format("the answer to call {} has an unknown field '{}'", key, name));
  return answer;
}

}  // namespace

std::map<std::string, Answer> read_answers(const std::string& text) {
  std::map<std::string, Answer> answers;
  auto add = [&](const json& j) {
    std::string key;
    Answer answer = read_answer(j, key);
    if (!answers.emplace(key, std::move(answer)).second) throw std::runtime_error(fmt::format("call {} is answered twice", key));
  };
  json whole = json::parse(text, nullptr, false);
  if (whole.is_array()) {
    for (const json& each : whole) add(each);
  } else if (!whole.is_discarded()) {
    add(whole);
  } else {
    std::size_t at = 0, line = 0;
    while (at < text.size()) {
      std::size_t end = std::min(text.find('\n', at), text.size());
      ++line;
      std::string one = text.substr(at, end - at);
      at = end + 1;
      if (one.find_first_not_of(" \t\r") == std::string::npos) continue;
      json j = json::parse(one, nullptr, false);
      if (j.is_discarded()) throw std::runtime_error(fmt::format("line {} is no JSON", line));
      add(j);
    }
  }
  return answers;
}

int drive(const ExpertFile& file, Assignment assignment, const std::string& folder, Hands& hands, const std::string& traceparent) {
  struct sigaction action{};
  action.sa_handler = take_signal;
  action.sa_flags = SA_RESTART;  // what waits looks at the eventfd, or a few times a second
  interrupt = isolate::sys::check(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK), "make an eventfd");
  for (int number : {SIGTERM, SIGINT, SIGHUP, SIGALRM}) ::sigaction(number, &action, nullptr);
  action.sa_handler = SIG_IGN;
  ::sigaction(SIGPIPE, &action, nullptr);
  if (assignment.cancel) signalled = SIGTERM;
  try {
    return Drive(file, assignment, folder, hands, traceparent).run();
  } catch (const std::exception& error) {
    fmt::print(stderr, "runner: job {}: {}\n", assignment.job, error.what());
    return kRunnerFailed;
  }
}

}  // namespace runner::agent
