#include "runner/agent/branch.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstdlib>
#include <stdexcept>

#include "runner/agent/context.h"

namespace runner::agent {

namespace {

void raise(std::uint64_t& count, std::uint64_t to) { count = std::max(count, to); }

std::uint64_t number_behind(const std::string& text, char mark) {
  std::size_t at = text.rfind(mark);
  return at == std::string::npos ? 0 : std::strtoull(text.c_str() + at + 1, nullptr, 10);
}

// Keys: a generation is "r1.2/7", a call "t12" of r1 or "r1.2-t3" of another run, with "+..." behind it when it was sent again.
void raise_by(const JournalLine& line, Job& job) {
  bool generation = line.kind == 'G';
  std::string key = line.key.substr(0, line.key.find('+'));
  std::size_t end = key.rfind(generation ? '/' : '-');
  auto run = job.runs.find(end == std::string::npos ? "r1" : key.substr(0, end));
  if (run != job.runs.end()) raise(generation ? run->second.generations : run->second.calls, number_behind(key, generation ? '/' : 't'));
  if (generation) raise(job.generations, std::strtoull(line.rest.c_str(), nullptr, 10));
}

}  // namespace

void branch_off(const Store& store, const Journal& journal, Ledger& ledger, const std::string& id, const std::string& from) {
  Job latest = store.load(id), job = store.load(id, from);
  auto root = job.runs.find("r1");
  if (root == job.runs.end() || !root->second.result.empty()) throw std::runtime_error(fmt::format("checkpoint {} of job {} is its end: choose an older one", from, id));
  for (const auto& [name, run] : latest.runs) {
    if (auto same = job.runs.find(name); same != job.runs.end()) {
      raise(same->second.generations, run.generations);
      raise(same->second.calls, run.calls);
      same->second.usage = run.usage, same->second.cost = run.cost;
    } else {
      root->second.usage += run.usage, root->second.cost += run.cost;
    }
  }
  sum_up(job);
  raise(job.generations, latest.generations);
  for (const JournalLine& line : journal.before()) raise_by(line, job);
  job.wall_ms = latest.wall_ms;
  job.services = latest.services;  // of the session, which nobody has set back
  job.status = "proceeding";
  job.branch = fmt::format("b{}", latest.seq + 1);
  std::string parent = job.head;
  std::uint64_t parent_seq = job.seq;
  job.seq = latest.seq;
  for (const auto& [name, run] : job.runs) {
    ++job.seq;
    job.head = checkpoint_id(job);
    events::CheckpointSaved told{job.seq, job.head, name, run.step, job.status, agent::told(job.usage)};
    told.branch = job.branch, told.parent_seq = parent_seq;
    ledger.commit(checkpoint_name(job.seq, job.head), encode_checkpoint(job, {name, {}, false}, parent, parent_seq), std::move(told));
    parent = job.head, parent_seq = job.seq;
  }
  ledger.drain();
}

}  // namespace runner::agent
