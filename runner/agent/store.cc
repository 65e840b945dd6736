#include "runner/agent/store.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <stdexcept>

#include "isolate/sys/error.h"
#include "isolate/sys/file.h"
#include "runner/agent/told.h"
#include "runner/snapshot/digest.h"

namespace runner::agent {

using namespace isolate::sys;

namespace {

constexpr std::size_t kLongest = 2048;             // bytes of a payload in an event itself
constexpr std::size_t kLargestFile = 256u << 20;   // of what is read back
constexpr std::size_t kMostWaiting = 512;          // items between the loop and the disk

// Aside and renamed, without waiting for the disk.
void put_file(const std::string& path, std::string_view text) {
  std::string aside = path + ".part";
  Fd file = open_file(aside, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
  write_all(file.get(), text);
  check(::rename(aside.c_str(), path.c_str()), "rename {}", aside);
}

void sync_folder(const std::string& path) {
  Fd folder = open_file(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  check(::fsync(folder.get()), "write {} to the disk", path);
}

// A file under its final name, but not there yet.
struct Aside {
  std::string path;
  Fd file;

  Aside(std::string name, std::string_view text) : path(std::move(name)), file(open_file(path + ".part", O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600)) {
    write_all(file.get(), text);
    // Begins now, so that waiting for many costs little more than waiting for one.
    (void)::sync_file_range(file.get(), 0, 0, SYNC_FILE_RANGE_WRITE);
  }
  void finish() {
    check(::fsync(file.get()), "write {} to the disk", path);
    file.close();
    check(::rename((path + ".part").c_str(), path.c_str()), "rename {}", path + ".part");
  }
};

}  // namespace

std::optional<std::string> Store::head() const {
  auto text = find_file(file("HEAD"));
  if (!text) return std::nullopt;
  while (!text->empty() && text->back() == '\n') text->pop_back();
  return text;
}

void Store::set_head(const std::optional<std::string>& name) const {
  if (name) return replace_file(file("HEAD"), *name + "\n", 0600, true);
  check(::unlink(file("HEAD").c_str()), "remove {}", file("HEAD"));
}

Job Store::load(const std::string& id, const std::string& last) const {
  Job job;
  job.id = id;
  std::optional<std::string> name = last.empty() ? head() : last;
  if (!name) return job;
  // From the last to the first by their parents: what was resumed from an older one has left some aside.
  std::vector<std::string> texts;
  std::uint64_t seq = ~std::uint64_t{0};
  for (std::string at = *name; !at.empty();) {
    std::string path = file("checkpoints/" + at + ".json");
    auto text = find_file(path, kLargestFile);
    if (!text) throw std::runtime_error(fmt::format("checkpoint {} of job {} is missing: the job cannot go on from it", path, id));
    try {
      nlohmann::json j = nlohmann::json::parse(*text);
      std::string parent = j.at("parent");
      if (j.at("seq").get<std::uint64_t>() >= seq) throw std::runtime_error("its number does not lie before the next one's");
      seq = j.at("seq");
      texts.push_back(std::move(*text));
      at = parent.empty() ? "" : checkpoint_name(j.at("parent_seq"), parent);
    } catch (const std::exception& error) {
      throw std::runtime_error(fmt::format("checkpoint {} of job {} cannot be read: {}", path, id, error.what()));
    }
  }
  for (auto text = texts.rbegin(); text != texts.rend(); ++text) {
    try {
      apply_checkpoint(job, *text);
    } catch (const std::exception& error) {
      throw std::runtime_error(fmt::format("a checkpoint of job {} behind number {} cannot be used: {}", id, job.seq, error.what()));
    }
  }
  return job;
}

std::string Store::payload(std::string_view text) const {
  if (text.size() <= kLongest) return nlohmann::json(text).dump(-1, ' ', true, nlohmann::json::error_handler_t::replace);
  std::string digest = snapshot::sha256(text), path = file("blobs/" + digest);
  std::lock_guard lock(blobs_);
  if (::access(path.c_str(), F_OK) == -1) {
    Aside blob(path, text);
    blob.finish();
    sync_folder(file("blobs"));
  }
  return fmt::format(R"({{"ref":{{"sha256":"{}","bytes":{}}}}})", digest, text.size());
}

void Store::write_services(const std::map<std::string, Service>& services) const { put_file(file("services.json"), encode(services) + "\n"); }

std::map<std::string, Service> Store::services() const {
  auto text = find_file(file("services.json"), kLargestFile);
  return text ? decode_services(*text) : std::map<std::string, Service>();
}

void Store::write_exchange(std::uint64_t number, std::string_view text) const { put_file(file(fmt::format("exchanges/{}.json", number)), text); }

std::optional<std::string> Store::find_exchange(std::uint64_t number) const {
  return find_file(file(fmt::format("exchanges/{}.json", number)), kLargestFile);
}

void Store::write_tools(const std::string& run, const std::map<std::string, std::vector<ToolDefinition>>& by_skill) const {
  nlohmann::json j = nlohmann::json::object();
  for (const auto& [skill, tools] : by_skill) {
    j[skill] = nlohmann::json::array();
    for (const ToolDefinition& tool : tools) j[skill].push_back({{"name", tool.name}, {"description", tool.description}, {"schema", tool.schema}});
  }
  put_file(file("tools/" + run + ".json"), j.dump(-1, ' ', true, nlohmann::json::error_handler_t::replace) + "\n");
}

std::optional<std::map<std::string, std::vector<ToolDefinition>>> Store::find_tools(const std::string& run) const {
  auto text = find_file(file("tools/" + run + ".json"), kLargestFile);
  if (!text) return std::nullopt;
  std::map<std::string, std::vector<ToolDefinition>> by_skill;
  const nlohmann::json j = nlohmann::json::parse(*text);  // items() does not keep it alive
  for (const auto& [skill, tools] : j.items())
    for (const auto& tool : tools) by_skill[skill].push_back({tool.at("name"), tool.at("description"), tool.at("schema")});
  return by_skill;
}

Journal::Journal(const std::string& path) : file_(open_file(path, O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC, 0600)) {
  std::string text = read_file(path, kLargestFile);
  std::size_t at = 0;
  for (std::size_t end; (end = text.find('\n', at)) != std::string::npos; at = end + 1) {
    std::string line = text.substr(at, end - at);
    std::size_t space = line.find(' ', 2);
    if (line.size() < 3 || line[1] != ' ' || space == std::string::npos) throw std::runtime_error(fmt::format("{}: line at byte {} is none of a journal", path, at));
    before_.push_back({line[0], line.substr(2, space - 2), line.substr(space + 1)});
  }
  // Who was killed has left half a line: what it would have said was not done yet, or is found out again.
  if (at != text.size()) check(::ftruncate(file_.get(), static_cast<off_t>(at)), "cut {}", path);
}

void Journal::add(char kind, const std::string& key, const std::string& rest) {
  std::lock_guard lock(mutex_);
  write_all(file_.get(), fmt::format("{} {} {}\n", kind, key, rest));
}

Ledger::Ledger(const Store& store, events::Writer writer) : store_(store), writer_(std::move(writer)), thread_([this] { work(); }) {}

Ledger::~Ledger() {
  {
    std::lock_guard lock(mutex_);
    over_ = true;
  }
  more_.notify_one();
  thread_.join();
}

void Ledger::push(Item item) {
  std::unique_lock lock(mutex_);
  less_.wait(lock, [this] { return queue_.size() < kMostWaiting || error_; });
  if (error_) std::rethrow_exception(error_);
  queue_.push_back(std::move(item));
  more_.notify_one();
}

void Ledger::event(events::Event event) {
  {
    std::lock_guard lock(mutex_);
    if (!said_.empty() && said_.erase(told_once(event))) return;
  }
  push(std::move(event));
}

void Ledger::leave_out(std::set<std::string> said) {
  std::lock_guard lock(mutex_);
  said_ = std::move(said);
}

void Ledger::commit(const std::string& name, std::string text, events::CheckpointSaved told) { push(Commit{name, std::move(text), std::move(told)}); }

void Ledger::drain() {
  std::unique_lock lock(mutex_);
  less_.wait(lock, [this] { return (queue_.empty() && !busy_) || error_; });
  if (error_) std::rethrow_exception(error_);
}

void Ledger::work() {
  for (;;) {
    std::deque<Item> batch;
    {
      std::unique_lock lock(mutex_);
      busy_ = false;
      less_.notify_all();
      more_.wait(lock, [this] { return !queue_.empty() || over_; });
      if (queue_.empty()) return;
      batch.swap(queue_);
      busy_ = true;
      less_.notify_all();
    }
    try {
      // What stands before the first checkpoint need not wait for the disk.
      auto first = std::find_if(batch.begin(), batch.end(), [](const Item& item) { return std::holds_alternative<Commit>(item); });
      for (auto item = batch.begin(); item != first; ++item) writer_.write(std::get<events::Event>(*item));
      make_durable(batch);
      for (auto item = first; item != batch.end(); ++item) {
        if (auto* commit = std::get_if<Commit>(&*item)) writer_.write(commit->told);
        else writer_.write(std::get<events::Event>(*item));
      }
    } catch (...) {
      std::lock_guard lock(mutex_);
      error_ = std::current_exception();
      less_.notify_all();
      return;
    }
  }
}

void Ledger::make_durable(const std::deque<Item>& batch) {
  std::vector<Aside> files;
  const Commit* last = nullptr;
  for (const Item& item : batch)
    if (auto* commit = std::get_if<Commit>(&item)) {
      files.emplace_back(store_.file("checkpoints/" + commit->name + ".json"), commit->text);
      last = commit;
    }
  if (!last) return;
  for (Aside& each : files) each.finish();
  sync_folder(store_.file("checkpoints"));
  replace_file(store_.file("HEAD"), last->name + "\n", 0600, true);
}

}  // namespace runner::agent
