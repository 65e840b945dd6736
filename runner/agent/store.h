// A job on the disk: design.md §9, agent-loop.md §3. All of it belongs to the process that runs the loop, and to nobody inside a sandbox.
//
//   jobs/<job>/job.json                       what it was started with; never changed
//              HEAD                           "<seq>-<id>" of the checkpoint that counts
//              checkpoints/<seq>-<id>.json    state.h; what each adds
//              blobs/<sha256>                 large payloads of events
//              tools/<run>.json               what its skills offer
//              services.json                  how far its servers were spoken to, of a job that begins with a warm snapshot
//              exchanges/<n>.json             one generation: request, answer, its raw bytes
//              journal                        what was done since, a line each, before it is in a checkpoint
//              events.ndjson                  the stream, with its key and head (runner/events/log.h)
//              lock                           held by who runs it
//
// A checkpoint, HEAD and a blob are durable before an event tells of them. Journal and exchanges are written before the next thing is done,
// and so survive the death of any process; a loss of power takes the steps behind HEAD with it, and the sandbox as well.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <exception>
#include <map>
#include <mutex>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <thread>
#include <variant>
#include <vector>

#include "isolate/sys/fd.h"
#include "runner/agent/state.h"
#include "runner/events/writer.h"

namespace runner::agent {

/// As events tell it.
inline events::TokenUsage told(const Usage& u) { return {u.input, u.cache_read, u.cache_write, u.output, u.reasoning}; }

/// The files of one job. Not of a thread's own: what is written at once has names of its own.
class Store {
 public:
  explicit Store(std::string path) : path_(std::move(path)) {}
  std::string file(const std::string& name) const { return path_ + "/" + name; }

  /// All checkpoints up to the one that HEAD names, or up to `last` ("<seq>-<id>"), applied. Throws for what is missing or damaged: a job never
  /// goes on silently from an older state. Empty `head` of the result: there is none yet.
  Job load(const std::string& id, const std::string& last = {}) const;
  std::optional<std::string> head() const;
  /// Back to an older one; empty: to the beginning.
  void set_head(const std::optional<std::string>& name) const;

  /// A JSON string, or a reference to a blob when it is long.
  std::string payload(std::string_view text) const;
  /// What a run is offered by its skills, so that who goes on with it need not ask the servers again.
  void write_tools(const std::string& run, const std::map<std::string, std::vector<ToolDefinition>>& by_skill) const;
  std::optional<std::map<std::string, std::vector<ToolDefinition>>> find_tools(const std::string& run) const;
  /// Of the servers in a warm snapshot, which a job begins with.
  void write_services(const std::map<std::string, Service>& services) const;
  std::map<std::string, Service> services() const;
  void write_exchange(std::uint64_t number, std::string_view text) const;
  std::optional<std::string> find_exchange(std::uint64_t number) const;

 private:
  std::string path_;
  mutable std::mutex blobs_;  // of two that are the same one is written
};

/// What was done behind the last checkpoint: kind, key and rest of each line. A torn last line is none.
struct JournalLine {
  // G a generation (rest: number of its exchange), I a call is about to be made, R it has this result, S a server has been greeted ("ERA NAME VERSION")
  char kind = 0;
  std::string key, rest;
};
class Journal {
 public:
  explicit Journal(const std::string& path);
  const std::vector<JournalLine>& before() const { return before_; }  ///< as it was found
  void add(char kind, const std::string& key, const std::string& rest);

 private:
  std::mutex mutex_;
  isolate::sys::Fd file_;
  std::vector<JournalLine> before_;
};

/// Everything that goes out of a job, in its order, by a thread of its own: events, and checkpoints, which are durable before what comes behind
/// them is printed. Those that come while the disk is at work go to it together, so that many a second can be durable.
class Ledger {
 public:
  Ledger(const Store& store, events::Writer writer);
  ~Ledger();

  void event(events::Event event);
  /// What an earlier process has said already (told.h): each of these is left out once.
  void leave_out(std::set<std::string> said);
  void commit(const std::string& name, std::string text, events::CheckpointSaved told);
  /// Returns when all of that is out. Throws what went wrong, once; nothing was announced from there on.
  void drain();

 private:
  struct Commit {
    std::string name, text;
    events::CheckpointSaved told;
  };
  using Item = std::variant<events::Event, Commit>;

  void work();
  void make_durable(const std::deque<Item>& batch);
  void push(Item item);

  const Store& store_;
  events::Writer writer_;
  std::mutex mutex_;
  std::condition_variable more_, less_;
  std::deque<Item> queue_;
  std::set<std::string> said_;
  bool busy_ = false, over_ = false;
  std::exception_ptr error_;
  std::thread thread_;
};

}  // namespace runner::agent
