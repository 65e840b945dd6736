// Generating: what a model is asked, how often, and within which limits.
#include <fmt/format.h>
#include <nettle/base64.h>

#include <nlohmann/json.hpp>
#include <thread>

#include "runner/agent/loop.h"
#include "runner/agent/trouble.h"
#include "runner/snapshot/digest.h"

namespace runner::agent {

namespace {

using supervise::Clock;
using supervise::milliseconds_since;

// Rounded up: what is spent is never told as less.
std::uint64_t cost_of(const Usage& u, const Price& p) {
  __extension__ typedef unsigned __int128 Wide;
  Wide sum = Wide{u.input} * p.input + Wide{u.cache_read} * p.cache_read + Wide{u.cache_write} * p.cache_write + Wide{u.output} * p.output;
  return static_cast<std::uint64_t>((sum + 999'999) / 1'000'000);
}

const char* word(Trouble trouble) {
  switch (trouble) {
    case Trouble::Transient: return "transient";
    case Trouble::Overflow: return "overflow";
    case Trouble::Permanent: return "permanent";
    case Trouble::Truncated: return "truncated";
    case Trouble::Empty: return "empty";
    case Trouble::Timeout: break;
  }
  return "timeout";
}

const char* word(Stop stop) {
  switch (stop) {
    case Stop::Done: return "done";
    case Stop::ToolCalls: return "tool-calls";
    case Stop::Length: return "length";
    case Stop::Refusal: return "refusal";
    case Stop::Pause: return "pause";
    case Stop::ContextOverflow: break;
  }
  return "context-overflow";
}

std::string base64(std::string_view bytes) {
  std::string text(BASE64_ENCODE_RAW_LENGTH(bytes.size()), '\0');
  base64_encode_raw(text.data(), bytes.size(), reinterpret_cast<const std::uint8_t*>(bytes.data()));
  return text;
}

// A guess that errs to the high side: tokens of text that no model has counted yet.
std::uint64_t guess_tokens(const Message& message) { return encode(message).size() / 3 + 8; }

}  // namespace

std::string Loop::digest_request() const { return snapshot::sha256(fmt::format("{} {} {}", head_sha256_, request_.max_tokens, chain_)); }

// The same for every step, unless a limit has changed max_tokens.
const std::string& Loop::head_payload() {
  if (head_payload_.empty() || head_max_tokens_ != request_.max_tokens) {
    head_payload_ = context_.store.payload(canonical_head(request_));
    head_max_tokens_ = request_.max_tokens;
  }
  return head_payload_;
}

// All limits are looked at before anything is spent; what is left bounds the answer. False: the run has ended.
bool Loop::within_limits(std::uint64_t& max_tokens) {
  std::string result, reason;
  std::lock_guard lock(context_.mutex);
  const Job& job = context_.job;
  const ExpertFile& file = context_.file;
  const JobLimits& limits = file.limits;
  if (!max_tokens) max_tokens = expert_.max_tokens ? expert_.max_tokens : file.max_tokens;
  // What this request will take in: the last one and its answer, and what came since.
  std::uint64_t input = run_.context, behind = request_.messages.size() < 2 ? request_.messages.size() : 1;
  for (std::size_t i = request_.messages.size() - behind; i < request_.messages.size(); ++i) input += guess_tokens(request_.messages[i]);
  if (run_.context == 0) input += (request_.system.size() + head_bytes_) / 3;

  auto bound = [&](std::uint64_t limit, std::uint64_t used, const std::string& what) {
    if (!limit || !result.empty()) return;
    if (used + input >= limit) result = "budget", reason = fmt::format("{}: {} of {} tokens are used, and the next request would take in about {}", what, used, limit, input);
    else max_tokens = std::min(max_tokens, limit - used - input);
  };
  if (run_.step >= file.max_steps) result = "max-steps", reason = fmt::format("max_steps: {} steps are done", run_.step);
  else if (limits.steps && job.steps >= limits.steps) result = "max-steps", reason = fmt::format("[limits] steps: {} steps are done", job.steps);
  else if (run_.steps_left && run_.step >= run_.steps_left) result = "max-steps", reason = fmt::format("its caller reserved {} steps for it", run_.steps_left);
  bound(limits.tokens, total(job.usage), "[limits] tokens");
  bound(run_.tokens_left, run_.context, "its caller's reservation");
  if (limits.money && result.empty()) {
    auto price = file.prices.find(request_.model);
    if (price == file.prices.end() || price->second.output == 0) {
      result = "budget", reason = fmt::format("[limits] money: there is no price for the model {}", request_.model);
    } else {
      std::uint64_t spent = job.cost + cost_of({input, 0, 0, 0, 0}, price->second);
      std::uint64_t rest = spent < limits.money ? (limits.money - spent) * 1'000'000 / price->second.output : 0;
      if (rest == 0) result = "budget", reason = fmt::format("[limits] money: {} of {} micro-units are spent, and the next request would take in about {} tokens", job.cost, limits.money, input);
      max_tokens = std::min(max_tokens, rest);
    }
  }
  if (result.empty()) return true;
  run_.result = result;
  run_.text = reason;
  return false;
}

bool Loop::generate() {
  if (auto completion = recorded()) return true;
  std::uint64_t max_tokens = 0;
  if (!within_limits(max_tokens)) {
    std::string result = run_.result, reason = run_.text;
    checkpoint("ended", {});
    end(result, "", reason);
    return false;
  }
  context_.ledger.event(events::StepStarted{run_.id, run_.step + 1});
  std::optional<Completion> completion = ask_model(max_tokens);
  if (completion) return true;
  std::string result = run_.result, reason = run_.text;
  checkpoint("ended", {});
  end(result, "", reason);
  return false;
}

// A generation that the journal knows, and no checkpoint yet: its calls may have been made, so it must be this one.
std::optional<Completion> Loop::recorded() {
  auto found = context_.recorded.find(fmt::format("{}/{}", run_.id, run_.generations + 1));
  if (found == context_.recorded.end()) return std::nullopt;
  auto text = context_.store.find_exchange(found->second);
  if (!text) throw std::runtime_error(fmt::format("exchange {} of job {} is missing, and the journal names it", found->second, context_.job.id));
  auto exchange = nlohmann::json::parse(*text);
  Completion completion = decode_completion(exchange.at("completion").dump());
  {
    std::lock_guard lock(context_.mutex);
    context_.job.generations = std::max(context_.job.generations, found->second);
  }
  open_turn(completion, exchange.value("ms", std::uint64_t{0}), found->second);
  return completion;
}

std::optional<Completion> Loop::ask_model(std::uint64_t max_tokens) {
  std::uint64_t number;
  {
    std::lock_guard lock(context_.mutex);
    number = ++context_.job.generations;
  }
  unsigned empties = 0, truncations = 0;
  for (unsigned attempt = 1;; ++attempt) {
    context_.check();
    if (attempt > 1 && !within_limits(max_tokens)) return std::nullopt;
    request_.max_tokens = max_tokens;
    std::string digest = digest_request();
    context_.ledger.event(events::GenerationStarted{run_.id, run_.step + 1, number, request_.messages.size(), max_tokens, request_.model, digest});
    std::string chunks;
    Progress progress;
    if (context_.deltas)
      progress.text = [&](std::string_view text) { context_.ledger.event(events::TextDelta{run_.id, number, std::string(text), "untrusted"}); };
    progress.chunk = [&](std::uint64_t ms, std::string_view bytes) { chunks += fmt::format(R"({}{{"ms":{},"base64":"{}"}})", chunks.empty() ? "" : ",", ms, base64(bytes)); };
    Clock::time_point began = Clock::now();
    if (!provider_) provider_ = context_.make_provider(run_);
    auto outcome = provider_->generate(request_, progress);
    context_.check();
    std::uint64_t ms = milliseconds_since(began);
    if (auto* full = std::get_if<Completion>(&outcome); full && full->stop == Stop::ContextOverflow) {
      Usage usage = full->usage;
      outcome = Failure{Trouble::Overflow, "the model says so", 0, 0, true, usage};
    }
    if (auto* completion = std::get_if<Completion>(&outcome)) {
      // The new messages only: those before are in the exchanges before.
      std::size_t first = request_.messages.size();
      while (first > 0 && request_.messages[first - 1].role != Role::Assistant) --first;
      std::string added;
      for (std::size_t i = first; i < request_.messages.size(); ++i) added += (added.empty() ? "" : ",") + encode(request_.messages[i]);
      context_.store.write_exchange(
          number, fmt::format(R"({{"version":1,"n":{},"run":"{}","generation":{},"attempt":{},"request_sha256":"{}","request":{{"head":{},"first_message":{},"messages":[{}]}},"ms":{},"completion":{},"chunks":[{}]}})"
                              "\n",
                              number, run_.id, run_.generations + 1, attempt, digest, head_payload(), first, added, ms,
                              encode(*completion), chunks));
      context_.journal.add('G', fmt::format("{}/{}", run_.id, run_.generations + 1), std::to_string(number));
      Completion whole = std::move(*completion);
      open_turn(whole, ms, number);
      return whole;
    }
    Failure failure = std::move(std::get<Failure>(outcome));
    {
      std::lock_guard lock(context_.mutex);
      spend(failure.usage);
    }
    bool again = !failure.must_not_retry && attempt <= context_.file.max_retries;
    switch (failure.trouble) {
      case Trouble::Transient:
      case Trouble::Timeout: break;
      case Trouble::Truncated:
        again = ++truncations == 1;
        max_tokens *= 2;
        break;
      case Trouble::Empty: again = ++empties <= 2; break;
      case Trouble::Overflow:
      case Trouble::Permanent: again = false;
    }
    if (!again) {
      run_.result = failure.trouble == Trouble::Overflow ? "budget" : "model-error";
      run_.text = failure.trouble == Trouble::Overflow ? "the context of the model is full: " + failure.reason : failure.reason;
      return std::nullopt;
    }
    bool at_once = failure.trouble == Trouble::Truncated || failure.trouble == Trouble::Empty;
    // Jitter that a replay repeats: of the job and the attempt, not of a clock.
    std::uint64_t wait_ms = at_once ? 0 : failure.retry_after ? failure.retry_after : backoff_ms(attempt - 1, std::hash<std::string>{}(context_.job.id + digest) + attempt);
    events::GenerationRetried retried{run_.id, run_.step + 1, number, attempt, word(failure.trouble), failure.reason, {}, wait_ms, {}};
    if (failure.status) retried.status = failure.status;
    if (failure.usage != Usage{}) retried.usage = told(failure.usage);
    context_.ledger.event(retried);
    wait(wait_ms);
    if (!failure.status) provider_.reset();  // another process looks the host up again
  }
}

void Loop::wait(std::uint64_t ms) const {
  Clock::time_point began = Clock::now();
  for (std::uint64_t gone; (gone = milliseconds_since(began)) < ms;) {
    context_.check();
    std::this_thread::sleep_for(std::chrono::milliseconds(std::min<std::uint64_t>(100, ms - gone)));
  }
}

// Under the mutex. What it has cost, if there is a price.
std::optional<std::uint64_t> Loop::spend(const Usage& usage) {
  run_.usage += usage;
  context_.job.usage += usage;
  auto price = context_.file.prices.find(request_.model);
  if (price == context_.file.prices.end()) return std::nullopt;
  std::uint64_t cost = cost_of(usage, price->second);
  run_.cost += cost;
  context_.job.cost += cost;
  return cost;
}

void Loop::open_turn(Completion completion, std::uint64_t ms, std::uint64_t number) {
  ++run_.generations;
  run_.context = total(completion.usage);
  events::GenerationFinished finished{run_.id, run_.step + 1, number, word(completion.stop), {}, 0, told(completion.usage), {}, ms, "untrusted"};
  std::string text;
  Turn turn;
  turn.stop = completion.stop;
  for (const Part& part : completion.message.parts) {
    if (auto* said = std::get_if<Text>(&part)) text += said->text;
    if (auto* call = std::get_if<ToolCall>(&part)) {
      std::string prefix = run_.parent.empty() ? "" : run_.id + "-";
      turn.calls.push_back({fmt::format("{}t{}", prefix, ++run_.calls), *call, CallState::Queued, {}, false, {}, {}, {}, {}, {}});
    }
  }
  turn.message = std::move(completion.message);
  finished.calls = turn.calls.size();
  if (!text.empty()) finished.text = events::JsonText{context_.store.payload(text)};
  {
    std::lock_guard lock(context_.mutex);
    finished.cost = spend(completion.usage);
  }
  context_.ledger.event(finished);
  run_.turn = std::move(turn);
}

}  // namespace runner::agent
