// rm: what an ended session has left, its log included.
#include <fmt/format.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <stdexcept>

#include "isolate/sys/child.h"
#include "isolate/sys/error.h"
#include "isolate/sys/socket.h"
#include "runner/cli/lost.h"
#include "runner/cli/sessions.h"

namespace runner::cli {

using namespace isolate::sys;

namespace {

// The supervisor that listens on the entry's socket, by the credentials of listen(2): unix(7). Empty when nobody does.
Fd supervisor_of(const session::Entry& entry) {
  try {
    Fd socket = connect_to(entry.file("control.sock"), SOCK_SEQPACKET);
    ucred peer{};
    socklen_t size = sizeof peer;
    check(::getsockopt(socket.get(), SOL_SOCKET, SO_PEERCRED, &peer, &size), "ask who supervises session {}", entry.id());
    // While we are connected it lives, so the number is its.
    return Fd(static_cast<int>(::syscall(SYS_pidfd_open, peer.pid, 0)));
  } catch (const SystemError&) {
    return Fd();
  }
}

// One whose state.json says nothing: what bears its name goes. Its supervisor first, if there is one: the session dies with it.
bool remove_damaged(Context& context, const std::string& id) {
  auto entry = session::Entry::find(context.directories(), id);
  std::string why;
  try {
    if (!entry || entry->find_state() || ::access(entry->file("state.json").c_str(), F_OK) == -1) return false;
  } catch (const std::exception& error) {
    why = error.what();
  }
  if (!entry->try_lock()) {
    if (Fd supervisor = supervisor_of(*entry)) signal_pidfd(supervisor.get(), SIGKILL);
    if (!lock_ended(*entry)) return true;
  }
  session::State state;
  state.id = id;
  state.is_session = true;
  state.cgroup = "/runner/" + id;
  std::size_t processes = isolate::Cgroup::open(state.cgroup, context.cgroups()).processes().size();
  std::string data = context.directories().session_data(id);
  bool has_data = ::access(data.c_str(), F_OK) == 0;
  remove_session(context, *entry, state);
  fmt::print(stderr, "runner: session {}: its state.json could not be read ({}); removed what bore its name: {} process{}, cgroup {}, {}{}{}\n", id, why,
             processes, processes == 1 ? "" : "es", state.cgroup, entry->path(), has_data ? ", " : "", has_data ? data : "");
  return true;
}

void remove(Context& context, const std::string& id, bool force) {
  if (force && session::why_bad_id(id).empty() && !session::Entry::find(context.directories(), id) && !adopt_lost(context, id))
    return session::sweep(context.directories(), context.cgroups());  // one whose maker was killed has no name yet
  if (force && session::why_bad_id(id).empty() && remove_damaged(context, id)) return;
  std::optional<Found> there;
  try {
    there = find_session(context, id);
  } catch (const std::exception&) {
    // With --rm and a supervisor that was killed it goes by being looked for; and others end and remove sessions too.
    if (force && session::why_bad_id(id).empty() && !session::Entry::find(context.directories(), id)) return;
    throw;
  }
  Found& found = *there;
  if (!found.state.suspended.empty() && !force)
    throw std::runtime_error(fmt::format("session {} is suspended, and would be lost: `runner wake {}` goes on with it, --force removes it", id, id));
  if (!found.state.ended) {
    if (!force)
      throw std::runtime_error(
          fmt::format("session {} is {}: stop it first, or use --force", id, status_of(context, found.state)));
    signal_session(context, found.state, SIGKILL);
    end_session(context, id, found.state, now_ms());
  }
  if (!lock_ended(found.entry)) return;  // --rm, or another rm, was faster
  session::State state = found.entry.read_state();
  if (state.ended && state.is_session) remove_session(context, found.entry, state);
}

}  // namespace

int rm_main(Context& context) {
  bool force = false;
  Options options("rm", "Remove sessions that have ended: their files, their log, their name.");
  options.flag("-f,--force", force, "end them first; an id that does not exist is no error");
  std::vector<std::string> ids = context.parse(options);
  if (ids.empty()) throw UsageError("rm: ID is missing");
  return for_each_id(context, ids, [&](const std::string& id) {
    remove(context, id, force);
    fmt::print("{}\n", id);
    std::fflush(stdout);
  });
}

}  // namespace runner::cli
