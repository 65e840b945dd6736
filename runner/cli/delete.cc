#include <poll.h>
#include <regex.h>
#include <signal.h>

#include <stdexcept>

#include "isolate/sys/child.h"
#include "isolate/sys/error.h"
#include "runner/cli/container.h"

namespace runner::cli {

using namespace isolate::sys;

namespace {

void kill_and_wait(const session::State& state, const isolate::CgroupHost& cgroups) {
  Fd process = session::open_process(state);
  if (!process) return;
  signal_pidfd(process.get(), SIGKILL);
  isolate::Cgroup cgroup = isolate::Cgroup::open(state.cgroup, cgroups);
  if (!state.cgroup.empty() && cgroup.frozen()) cgroup.kill();
  pollfd ended{process.get(), POLLIN, 0};
  if (::poll(&ended, 1, 10'000) == 0) fail(ETIMEDOUT, "end process {} of the container", state.pid);
}

void delete_one(Context& context, const std::string& id, bool force) {
  check_id(id);
  auto entry = session::Entry::find(context.directories(), id);
  if (!entry && force) return;
  if (!entry) throw std::runtime_error("container does not exist");

  session::State state = entry->read_state();
  session::Status status = session::status_of(state, context.cgroups());
  if (!force && status != session::Status::Stopped && status != session::Status::Created)
    throw std::runtime_error(fmt::format("cannot delete container {} that is not stopped: {}", id, session::status_name(status)));
  kill_and_wait(state, context.cgroups());
  // A session's supervisor says its last words and lets go of the lock; with --rm it removes everything by itself.
  if (state.is_session) entry->lock();
  if (session::Entry::find(context.directories(), id)) remove_container(context, *entry, state);
}

// regex(3).
class Expression {
 public:
  explicit Expression(const std::string& text) {
    int wrong = ::regcomp(&compiled_, text.c_str(), REG_EXTENDED | REG_NOSUB);
    if (!wrong) return;
    char why[200];
    ::regerror(wrong, &compiled_, why, sizeof why);
    throw UsageError(fmt::format("delete: regular expression '{}': {}", shown(text), why));
  }
  Expression(const Expression&) = delete;
  ~Expression() { ::regfree(&compiled_); }

  bool has_match(const std::string& text) const { return ::regexec(&compiled_, text.c_str(), 0, nullptr, 0) == 0; }

 private:
  regex_t compiled_;
};

}  // namespace

int delete_main(Context& context) {
  bool force = false, regex = false;
  Options options("delete", "Delete a container or session with all that it holds.");
  options.flag("-f,--force", force, "kill it first; an id that does not exist is no error");
  options.flag("-r,--regex", regex, "the id is a regular expression (POSIX, extended): all whose id has a match in it");
  std::string id = one_argument(context.parse(options), "delete");
  if (!regex) return delete_one(context, id, force), 0;
  Expression expression(id);
  for (const std::string& each : session::list_entries(context.directories()))
    if (expression.has_match(each)) delete_one(context, each, force);
  return 0;
}

}  // namespace runner::cli
