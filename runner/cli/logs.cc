// logs: the events of a session, from its beginning or a later place, and as they come.
#include <fmt/format.h>
#include <poll.h>
#include <sys/inotify.h>
#include <unistd.h>

#include <cstdlib>
#include <stdexcept>

#include "isolate/sys/error.h"
#include "isolate/sys/file.h"
#include "runner/cli/sessions.h"
#include "runner/events/reader.h"
#include "runner/events/verify.h"

namespace runner::cli {

using namespace isolate::sys;

namespace {

void print(events::LogReader& log) {
  log.read([](std::string_view lines) { write_all(STDOUT_FILENO, lines); });
}

// Until session.ended. A change of the file wakes us, and so does the end of PID 1: a supervisor that is killed writes no last line.
// The end of our reader is looked out for too, as a quiet session would let us wait for a reason to write to nobody.
void follow(Context& context, const std::string& id, events::LogReader& log) {
  Fd changes(check(::inotify_init1(IN_CLOEXEC | IN_NONBLOCK), "watch the log of {}", id));
  std::optional<session::State> state;  // none of one whose run directory a reboot has taken
  if (session::Entry::find(context.directories(), id)) state = find_session(context, id).state;
  Fd process = state ? session::open_process(*state) : Fd();
  log.watch(changes.get());
  print(log);
  for (bool over = false; !log.has_ended() && !over;) {
    pollfd wait[] = {{changes.get(), POLLIN, 0}, {process ? process.get() : -1, POLLIN, 0}, {STDOUT_FILENO, 0, 0}};
    if (::poll(wait, 3, process ? -1 : 100) == -1 && errno != EINTR) fail(errno, "wait for events");
    char events[4096];
    while (::read(changes.get(), events, sizeof events) > 0) {
    }
    if (wait[2].revents & POLLERR) return;
    if (wait[1].revents) process.close();
    over = !process && !(state && goes_on(context, id, *state));  // asked before the last look at the log
    log.watch(changes.get());
    print(log);
  }
  if (!log.has_ended())
    throw std::runtime_error(fmt::format("the log of session {} has no session.ended: its supervisor died", id));
}

std::uint64_t number(const std::string& text, const char* flag) {
  if (text.empty() || text.size() > 18 || text.find_first_not_of("0123456789") != std::string::npos)
    throw UsageError(fmt::format("{}: must be a number, not '{}'", flag, shown(text)));
  return std::strtoull(text.c_str(), nullptr, 10);
}

}  // namespace

int logs_main(Context& context) {
  bool verify = false, follows = false;
  std::string since, tail;
  Options options("logs", "Print the events of a session.");
  options.flag("--verify", verify, "prove that no event was changed, added, moved or cut off");
  options.flag("-f,--follow", follows, "go on with events as they come, until the session has ended");
  options.value("--since", since, "only events behind this sequence number: the last that was seen");
  options.value("-n,--tail", tail, "only so many from the end");
  std::string id = one_argument(context.parse(options), "logs");
  check_id(id);
  std::optional<std::uint64_t> behind, last;
  if (!since.empty()) behind = number(since, "--since");
  if (!tail.empty()) last = number(tail, "--tail");
  if (verify && (follows || behind || last))
    throw UsageError("logs: --verify takes the whole log; leave --follow, --since and --tail out");

  std::string path = context.directories().session_data(id) + "/events.ndjson";
  if (::access(path.c_str(), F_OK) == -1) {
    find_session(context, id);  // it says what is wrong with the id, or waits for one that is just being made
    if (::access(path.c_str(), F_OK) == -1)
      throw std::runtime_error(
          fmt::format("session {} keeps no log: it runs with --rm, and its caller has the events", id));
  }
  if (verify) {
    events::VerifyResult result = events::verify_log(path);
    if (!result.ok) throw std::runtime_error(fmt::format("{}: {}", path, result.why));
    std::string gone = result.gone ? fmt::format("; {} before them were rotated away", result.gone) : "";
    fmt::print("{}: {} events, none missing, none changed{}\n", path, result.lines, gone);
    return 0;
  }
  events::LogReader log(path);
  if (behind) log.skip_to_behind(*behind);
  if (last) log.skip_to_last(*last);
  if (follows)
    follow(context, id, log);
  else
    print(log);
  if (log.lost())
    report_warning(context.globals, fmt::format("logs: {} events were rotated away before they could be read", log.lost()));
  return 0;
}

}  // namespace runner::cli
