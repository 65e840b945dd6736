// `runner job lock`: what the skills of an expert offer is written down. `runner job warm`: they are kept in a snapshot, of a session in which they
// have started, been greeted, and said it. A job of just this expert begins with it: its first request to the model waits for none of them.
//
//   warm/<key>/job.json                what it was made for; the key is a digest of that
//              tools/, services.json   as in a job's folder (runner/agent/store.h)
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <functional>
#include <nlohmann/json.hpp>

#include "isolate/sys/error.h"
#include "isolate/sys/file.h"
#include "runner/cli/job.h"
#include "runner/snapshot/digest.h"
#include "runner/snapshot/store.h"

namespace runner::cli {

using namespace isolate::sys;
using json = nlohmann::ordered_json;

namespace {

std::string warm_folder(Context& context) { return context.directories().data + "/warm"; }

// Other versions of one expert file are others.
std::string key_of(const JobRecord& r) {
  json said{r.expert_sha256, r.expert, r.policy, r.session_flags};
  return snapshot::sha256(said.dump(-1, ' ', true, json::error_handler_t::replace)).substr(0, 16);
}

bool is_key(const std::string& name) { return name.size() == 16 && name.find_first_not_of("0123456789abcdef") == std::string::npos; }

bool is_same_expert(const JobRecord& a, const JobRecord& b) {
  return a.expert_file == b.expert_file && a.expert == b.expert && a.policy == b.policy && a.session_flags == b.session_flags;
}

struct Warm {
  std::string folder;
  JobRecord record;
};

std::vector<Warm> all_warm(Context& context) {
  std::vector<Warm> all;
  if (find_dir(warm_folder(context)))
    for (const std::string& name : list_dir(warm_folder(context)))
      if (is_key(name)) all.push_back({warm_folder(context) + "/" + name, read_job_in(warm_folder(context) + "/" + name)});
  return all;
}

void remove_snapshot(Context& context, const std::string& name) {
  snapshot::Store store(context.directories());
  if (store.find(name)) store.remove(name);
}

// Whoever made one and was killed has left it half done.
void sweep(Context& context) {
  if (!find_dir(warm_folder(context))) return;
  for (const std::string& id : list_dir(warm_folder(context))) {
    std::string folder = warm_folder(context) + "/" + id;
    if (is_key(id) || keeper_of(folder)) continue;
    end_job_session(context, id);
    remove_volume_of(context, id);
    remove_snapshot(context, id);
    remove_tree(folder);
  }
}

// The snapshot stays while a session comes from it; nothing else begins with it any more.
void forget(Context& context, const Warm& old) {
  remove_tree(old.folder);
  try {
    remove_snapshot(context, old.record.session);
  } catch (const std::exception& error) {
    report_error(context.globals, fmt::format("{}: remove it later with `runner snapshot rm {}`", error.what(), old.record.session));
  }
}

json describe(const JobRecord& r) {
  return {{"snapshot", r.session}, {"expert", r.expert}, {"expert_file", r.expert_file}, {"expert_sha256", r.expert_sha256}, {"policy", r.policy}, {"created", r.started}};
}

void print(const JobRecord& r) { fmt::print("{}\n", describe(r).dump(-1, ' ', true, json::error_handler_t::replace)); }

// A session in which skills are started for no job. All of it is removed again, but for what was moved away.
class Preparation {
 public:
  Preparation(Context& context, const char* what, const std::string& expert, const std::string& config, const std::string& policy, const std::vector<std::string>& volumes)
      : context_(context), record_(new_record(fresh_job(what), expert, config, policy, volumes)) {
    sweep(context);
    folder_ = make_job_folder(warm_folder(context), record_.id);
    lock_ = hold_job(folder_, record_.id);
    record_.workspace = volume_of_job(record_.id);  // where that of a job comes to stand
  }
  ~Preparation() {
    try {
      remove_volume_of(context_, record_.id);
      if (kept_) return;
      remove_snapshot(context_, record_.id);
      remove_tree(folder_);
    } catch (const std::exception& error) {
      report_error(context_.globals, error.what());
    }
  }
  int keep(const std::function<void(agent::Order&)>& what) {
    agent::Order order = order_of(record_, folder_);
    order.begins = true;
    what(order);
    return keep_job(context_, std::move(order), record_);
  }
  const std::string& folder() const { return folder_; }
  void done() { kept_ = true; }

 private:
  Context& context_;
  JobRecord record_;
  std::string folder_;
  Fd lock_;
  bool kept_ = false;
};

}  // namespace

std::string digest_environment(const std::string& salt, const std::map<std::string, std::string>& environment) {
  std::string all = salt;
  for (const auto& [name, value] : environment) all += fmt::format("\n{} {} {}", name, value.size(), value);
  return snapshot::sha256(all);
}

void find_warm(Context& context, const std::string& folder, JobRecord& record, const std::map<std::string, std::string>& environment) {
  std::string from = warm_folder(context) + "/" + key_of(record);
  if (::access((from + "/job.json").c_str(), F_OK) == -1) return;
  JobRecord warm = read_job_in(from);
  // Its servers hold what they were given then.
  if (warm.environment_sha256 != digest_environment(warm.id, environment)) return;
  if (!snapshot::Store(context.directories()).find(warm.session)) return;
  for (const char* name : {"tools/r1.json", "services.json"}) {
    replace_file(folder + "/" + name, read_of_job(warm.id, from, name), 0600);
    if (std::uint32_t user = user_of_job(record.id)) check(::chown((folder + "/" + name).c_str(), user, user), "give {}/{} to the job's user", folder, name);
  }
  if (record.workspace.empty()) record.workspace = volume_of_job(record.id);
  record.warm = warm.session;
}

int job_warm(Context& context) {
  std::string config, policy, remove;
  std::vector<std::string> volumes;
  bool list = false;
  Options options("job warm", "Start the skills of an expert once, and keep them in a snapshot that its jobs begin with: runner job warm EXPERT.");
  options.value("-c,--config", config, "experts.toml; else experts.toml or perstack.toml here or above");
  options.value("--policy", policy, "as the jobs will be given it");
  options.values("-v,--volume", volumes, "HOST:INSIDE:ro, as the jobs will be given them");
  options.flag("--ls", list, "those that there are, as JSON lines");
  options.value("--rm", remove, "remove the one with this snapshot");
  std::vector<std::string> words = context.parse(options);
  if (list + !remove.empty() + !words.empty() != 1) throw UsageError("job warm: one of EXPERT, --ls and --rm SNAPSHOT");
  if (list) {
    for (const Warm& each : all_warm(context)) print(each.record);
    return 0;
  }
  if (!remove.empty()) {
    for (const Warm& each : all_warm(context))
      if (each.record.session == remove) return forget(context, each), 0;
    throw std::runtime_error(fmt::format("no expert is kept warm in a snapshot {} (`runner job warm --ls` lists them)", shown(remove)));
  }
  if (words.size() > 1) throw UsageError("job warm: one EXPERT at a time");
  Preparation made(context, "warm", words[0], config, policy, volumes);
  if (int code = made.keep([](agent::Order& order) { order.warms = true; })) return code;
  std::string folder = made.folder();
  JobRecord record = read_job_in(folder);
  for (const Warm& old : all_warm(context))
    if (is_same_expert(old.record, record) || key_of(old.record) == key_of(record)) forget(context, old);
  std::string to = warm_folder(context) + "/" + key_of(record);
  check(::rename(folder.c_str(), to.c_str()), "rename {} to {}", folder, to);
  made.done();
  print(record);
  return 0;
}

int job_lock(Context& context) {
  std::string config, policy;
  std::vector<std::string> volumes;
  Options options("job lock", "Write down what the skills of an expert and its delegates offer, in experts.lock beside its file: runner job lock EXPERT. With it a server\n"
                              "starts at its first call, and one that offers something else than the lock says is not used.");
  options.value("-c,--config", config, "experts.toml; else experts.toml or perstack.toml here or above");
  options.value("--policy", policy, "of the session that they are started in");
  options.values("-v,--volume", volumes, "HOST:INSIDE:ro, as the jobs will be given them");
  Preparation made(context, "lock", one_argument(context.parse(options), "job lock", "EXPERT"), config, policy, volumes);
  if (int code = made.keep([](agent::Order& order) { order.warms = order.locks = true; })) return code;
  JobRecord record = read_job_in(made.folder());
  std::string path = record.expert_file.substr(0, record.expert_file.rfind('/') + 1) + "experts.lock";
  replace_file(path, read_of_job(record.id, made.folder(), "experts.lock"), 0644);
  fmt::print("{}\n", path);
  return 0;
}

}  // namespace runner::cli
