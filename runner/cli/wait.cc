// Waiting for something in a session: its end, a port, an answer, a line of its output.
#include <arpa/inet.h>
#include <fcntl.h>
#include <linux/inet_diag.h>
#include <linux/netlink.h>
#include <linux/sock_diag.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <regex.h>
#include <sys/inotify.h>
#include <sys/socket.h>

#include <algorithm>
#include <charconv>
#include <map>
#include <nlohmann/json.hpp>

#include "isolate/sys/error.h"
#include "isolate/sys/file.h"
#include "runner/cli/inside.h"
#include "runner/config/units.h"
#include "runner/events/reader.h"
#include "runner/session/last_words.h"

namespace runner::cli {

using namespace isolate::sys;

namespace {

constexpr int kTimedOut = 124, kUnknown = 125;
constexpr int kFinishing = 50;  // ms between looks at a supervisor that has its last words to write

struct TimedOut {};

/// Until one of them is ready, at most `longest` ms (-1: no limit) and not beyond `end`; throws TimedOut then.
bool await(std::vector<pollfd> waits, std::int64_t end, int longest = -1) {
  std::int64_t left = end < 0 ? -1 : end - now_ms();
  if (end >= 0 && left <= 0) throw TimedOut();
  std::int64_t time = left < 0 ? longest : longest < 0 ? left : std::min<std::int64_t>(left, longest);
  int ready = ::poll(waits.data(), waits.size(), static_cast<int>(std::min<std::int64_t>(time, 1 << 30)));
  if (ready == -1 && errno != EINTR) fail(errno, "wait for the session");
  return ready > 0;
}

Fd watch_path(const std::string& path, std::uint32_t mask) {
  Fd notify(check(::inotify_init1(IN_CLOEXEC | IN_NONBLOCK), "make an inotify instance"));
  check(::inotify_add_watch(notify.get(), path.c_str(), mask), "watch {}", path);
  return notify;
}

void empty(const Fd& notify) {
  char bytes[4096];
  while (::read(notify.get(), bytes, sizeof bytes) > 0) {
  }
}

// ---- --exit ------------------------------------------------------------------------------------------------------

// The result, for who asked for it: of a session that removes itself it is written down nowhere else.
int tell_end(const std::string& id, const std::string& result, int exit_code, const std::string& finished, bool as_json) {
  using json = nlohmann::ordered_json;
  if (as_json) fmt::print("{}\n", json{{"id", id}, {"result", result}, {"exit_code", exit_code >= 0 ? json(exit_code) : json()}, {"finished", finished}}.dump());
  return exit_code >= 0 ? exit_code : kUnknown;
}

int wait_exit(Context& context, const std::string& id, std::int64_t end, bool as_json) {
  session::Entry entry = context.entry(id);
  session::Witness witness(entry);
  // state.json is renamed into place, and an entry that goes is renamed away first.
  Fd notify = watch_path(entry.path(), IN_MOVED_TO | IN_MOVE_SELF | IN_DELETE_SELF | IN_ONLYDIR);
  for (;;) {
    empty(notify);
    std::optional<session::State> found = entry.find_state();
    // Asked behind it: what was found is of our session only if that still has its name.
    if (!witness.stands()) {
      if (auto last = witness.last_words()) return tell_end(id, last->result, last->exit_code, last->finished, as_json);
      report_warning(context.globals, fmt::format("wait: {} has been removed, and its supervisor has left no last words: its exit status is not known", id));
      return kUnknown;
    }
    session::State state = found.value_or(session::State());
    if (!state.suspended.empty()) {  // on disk, from where it goes on
      await({{notify.get(), POLLIN, 0}}, end);
      continue;
    }
    if (state.ended) return tell_end(id, state.result, state.exit_code, state.finished, as_json);
    Fd process = session::open_process(state);
    if (!process && !state.is_session && state.pid > 0)
      return 0;  // the status of a container is its parent's, and not kept
    if (process) {
      await({{notify.get(), POLLIN, 0}, {process.get(), POLLIN, 0}}, end);
    } else if (entry.try_lock()) {
      entry.unlock();
      auto last = entry.find_state();
      if ((!last || !last->ended) && witness.stands())
        throw std::runtime_error(fmt::format("the supervisor of session {} has died, and the session with it", id));
    } else {
      // Its first process is not there yet or has ended, and its supervisor is about to say more. The lock of a file cannot be polled.
      await({{notify.get(), POLLIN, 0}}, end, kFinishing);
    }
  }
}

// ---- --log -------------------------------------------------------------------------------------------------------

// POSIX's: std::regex recurses for each character of a line, which the session chooses.
class Pattern {
 public:
  explicit Pattern(const std::string& text) {
    if (int error = ::regcomp(&compiled_, text.c_str(), REG_EXTENDED | REG_NOSUB)) {
      char why[200];
      ::regerror(error, &compiled_, why, sizeof why);
      throw UsageError(fmt::format("--log: '{}' is no regular expression: {}", text, why));
    }
  }
  ~Pattern() { ::regfree(&compiled_); }
  Pattern(const Pattern&) = delete;
  bool matches(const std::string& line) const { return ::regexec(&compiled_, line.c_str(), 0, nullptr, 0) == 0; }

 private:
  regex_t compiled_;
};

std::string from_base64(const std::string& text) {
  std::string bytes;
  unsigned value = 0, bits = 0;
  for (char c : text) {
    static const std::string kDigits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    std::size_t digit = kDigits.find(c);
    if (digit == std::string::npos) break;
    value = value << 6 | static_cast<unsigned>(digit);
    if ((bits += 6) >= 8) bytes += static_cast<char>(value >> (bits -= 8) & 0xff);
  }
  return bytes;
}

// The lines of each stream, put together again from its events; the last one also before its end, since a prompt has none.
class Output {
 public:
  bool add(const nlohmann::json& data, const Pattern& pattern) {
    constexpr std::size_t kLongest = 64 << 10;
    std::string& line = lines_[data.value("stream", "")];
    std::string text = data.contains("base64") ? from_base64(data.value("base64", "")) : data.value("text", "");
    std::replace(text.begin(), text.end(), '\0', ' ');  // which no `.` of a regular expression matches
    for (std::size_t at = 0; at < text.size();) {
      std::size_t end = std::min(text.find('\n', at), text.size());
      line.append(text, at, end - at);
      if (line.size() > kLongest) line.erase(0, line.size() - kLongest);
      if (pattern.matches(line)) return true;
      if (end < text.size()) line.clear();
      at = end + 1;
    }
    return false;
  }

 private:
  std::map<std::string, std::string> lines_;
};

int wait_log(Context& context, const Target& target, const std::string& regex, std::int64_t end) {
  Pattern pattern(regex);
  std::string path = context.directories().session_data(target.id) + "/events.ndjson";
  if (::access(path.c_str(), R_OK) == -1)
    throw std::runtime_error(fmt::format(
        "session {} has no log at {} (a container, or a session with --rm in the foreground)", target.id, path));
  events::LogReader log(path);
  Fd notify(check(::inotify_init1(IN_CLOEXEC | IN_NONBLOCK), "make an inotify instance"));
  session::Entry entry = context.entry(target.id);
  Output output;
  bool found = false;
  auto search = [&](std::string_view lines) {
    for (std::size_t at = 0, end; !found && at < lines.size(); at = end + 1) {
      end = lines.find('\n', at);
      auto event = nlohmann::json::parse(lines.begin() + at, lines.begin() + end, nullptr, false);
      found = event.is_object() && event.value("type", "") == "stdio" && output.add(event["data"], pattern);
    }
  };
  for (bool over = false;;) {
    empty(notify);
    log.watch(notify.get());
    log.read(search);
    if (found) return 0;
    over = over || log.has_ended();
    std::string unread = log.lost() ? fmt::format(" ({} events were rotated away before they could be read)", log.lost()) : "";
    if (over) throw std::runtime_error(fmt::format("session {} has ended without such a line{}", target.id, unread));
    if (session::open_process(target.state)) {
      await({{notify.get(), POLLIN, 0}, {target.process.get(), POLLIN, 0}}, end);
    } else if (!session::Entry::find(context.directories(), target.id) || entry.try_lock()) {
      entry.unlock();
      over = true;  // its supervisor has written all that it ever will: one more look
    } else {
      await({{notify.get(), POLLIN, 0}}, end, kFinishing);
    }
  }
}

// ---- --port and --http, in a helper inside ----------------------------------------------------------------------

bool listens(const Fd& diag, int family, std::uint16_t port) {
  struct {
    nlmsghdr header;
    inet_diag_req_v2 request;
  } ask{};
  ask.header.nlmsg_len = sizeof ask;
  ask.header.nlmsg_type = SOCK_DIAG_BY_FAMILY;
  ask.header.nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP;
  ask.request.sdiag_family = static_cast<std::uint8_t>(family);
  ask.request.sdiag_protocol = IPPROTO_TCP;
  ask.request.idiag_states = 1u << TCP_LISTEN;
  check(::send(diag.get(), &ask, sizeof ask, 0), "ask for the listening sockets");
  bool found = false;
  for (;;) {
    alignas(nlmsghdr) char bytes[32 << 10];
    ssize_t got = check(::recv(diag.get(), bytes, sizeof bytes, 0), "read the listening sockets");
    auto left = static_cast<unsigned>(got);
    for (auto* one = reinterpret_cast<nlmsghdr*>(bytes); NLMSG_OK(one, left); one = NLMSG_NEXT(one, left)) {
      if (one->nlmsg_type == NLMSG_DONE) return found;
      if (one->nlmsg_type == NLMSG_ERROR)
        fail(-static_cast<nlmsgerr*>(NLMSG_DATA(one))->error, "list the listening sockets");
      if (one->nlmsg_type == SOCK_DIAG_BY_FAMILY)
        found = found || static_cast<inet_diag_msg*>(NLMSG_DATA(one))->id.idiag_sport == htons(port);
    }
  }
}

/// The number of its status line; 0 when there was no answer that HTTP knows.
int http_status(bool six, std::uint16_t port, const std::string& path, std::int64_t end) {
  Fd fd(check(::socket(six ? AF_INET6 : AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0), "make a socket"));
  sockaddr_in to4{};
  to4.sin_family = AF_INET, to4.sin_port = htons(port), to4.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  sockaddr_in6 to6{};
  to6.sin6_family = AF_INET6, to6.sin6_port = htons(port), to6.sin6_addr = in6addr_loopback;
  int done = six ? ::connect(fd.get(), reinterpret_cast<sockaddr*>(&to6), sizeof to6)
                 : ::connect(fd.get(), reinterpret_cast<sockaddr*>(&to4), sizeof to4);
  if (done == -1 && errno != EINPROGRESS) return 0;
  await({{fd.get(), POLLOUT, 0}}, end);
  std::string
      ask = fmt::format(
          "GET {} HTTP/1.1\r\nHost: localhost:{}\r\nUser-Agent: runner\r\nAccept: */*\r\nConnection: close\r\n\r\n",
          path, port),
      answer;
  if (::send(fd.get(), ask.data(), ask.size(), MSG_NOSIGNAL) != static_cast<ssize_t>(ask.size())) return 0;
  while (answer.size() < 12) {  // "HTTP/1.1 200"
    await({{fd.get(), POLLIN, 0}}, end);
    char bytes[512];
    ssize_t got = ::recv(fd.get(), bytes, sizeof bytes, 0);
    if (got == -1 && errno == EAGAIN) continue;
    if (got <= 0) return 0;
    answer.append(bytes, static_cast<std::size_t>(got));
  }
  int status = 0;
  bool known = answer.rfind("HTTP/1.", 0) == 0 && answer[8] == ' ';
  auto [rest, error] = std::from_chars(answer.data() + 9, answer.data() + 12, status);
  return known && error == std::errc() && rest == answer.data() + 12 ? status : 0;
}

bool answers(std::uint16_t port, const std::string& path, std::int64_t end) {
  constexpr std::int64_t kPatience =
      5000;  // then it is asked again: a server may lose what it got while it was starting
  std::int64_t until = now_ms() + kPatience;
  if (end >= 0) until = std::min(until, end);
  for (bool six : {false, true}) {
    try {
      if (int status = http_status(six, port, path, until); status >= 100) return status < 500;
    } catch (const TimedOut&) {
      return false;
    }
  }
  return false;
}

// The kernel tells nobody that a socket listens (sock_diag's multicast groups are of sockets that are destroyed), so it is asked again
// and again: at first every millisecond, then less often.
void await_port(int pidfd, std::uint16_t port, const std::string& path, std::int64_t end) {
  Fd diag(check(::socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_SOCK_DIAG), "open a socket for sock_diag"));
  int longest = path.empty() ? 50 : 250;  // each question to a server leaves a line in its log
  for (int pause = 1;; pause = std::min(pause * 2, longest)) {
    if (listens(diag, AF_INET, port) || listens(diag, AF_INET6, port)) {
      if (path.empty() || answers(port, path, end)) return;
    } else {
      pause = std::min(pause, 50);
    }
    if (await({{pidfd, POLLIN, 0}}, end, pause)) throw std::runtime_error("the session has ended before");
  }
}

int wait_port(const Target& target, std::uint16_t port, const std::string& path, std::int64_t end) {
  isolate::Place place = target.place();
  place.network = true;
  isolate::Helper helper(place, {}, [&](isolate::Report& report) {
    try {
      await_port(place.pidfd, port, path, end);
    } catch (const TimedOut&) {
      report.note("timed out");
    }
  });
  if (!helper.finish().empty()) throw TimedOut();
  return 0;
}

}  // namespace

int wait_main(Context& context) {
  bool exit = false;
  std::string port_text, regex, path, timeout, format;
  Options options("wait", "Wait for something in a session, and for its end by default: runner wait [flags] ID");
  options.flag("--exit", exit, "its end; the exit status is the session's");
  options.value("--port", port_text, "a TCP port on which something listens");
  options.value("--http", path, "an answer with a status below 500 to GET of this path, at --port");
  options.value("--line", regex,
                "a line of its output that matches this extended regular expression, from the beginning on; as --log, "
                "behind the verb");
  options.value("-f,--format", format, "of --exit: json prints id, result and exit status of the session");
  options.value("--timeout", timeout, "at most this long; the exit status is 124 then");
  std::vector<std::string> given = context.arguments;
  std::string id = one_argument(context.parse(options), "wait");
  auto asked = [&](const std::string& flag) {
    return std::any_of(given.begin(), given.end(),
                       [&](const std::string& a) { return a == flag || a.rfind(flag + "=", 0) == 0; });
  };
  if (exit + asked("--line") + (asked("--port") || asked("--http")) > 1)
    throw UsageError("wait: --exit, --log and --port exclude each other");
  if (!format.empty() && format != "json") throw UsageError(fmt::format("--format: '{}' is not json", shown(format)));
  if (!format.empty() && (asked("--line") || asked("--port"))) throw UsageError("wait: --format is of --exit");
  if (asked("--http") && !asked("--port")) throw UsageError("wait: --http wants --port");
  if (asked("--http") && (path.empty() || path[0] != '/' ||
                          std::any_of(path.begin(), path.end(), [](unsigned char c) { return c <= ' ' || c >= 127; })))
    throw UsageError(fmt::format("--http: '{}' is no path such as /health", shown(path)));
  if (asked("--line") && regex.empty()) throw UsageError("--log: the regular expression is empty");
  std::optional<std::uint64_t> port = parse_whole(port_text), limit = parse_duration(timeout);
  if (asked("--port") && (!port || *port == 0 || *port > 65535))
    throw UsageError(fmt::format("--port: '{}' is no port number", shown(port_text)));
  if (asked("--timeout") && !limit)
    throw UsageError(fmt::format("--timeout: '{}' is no duration such as 30s", shown(timeout)));
  std::int64_t end = limit ? now_ms() + static_cast<std::int64_t>(*limit) : -1;
  try {
    if (!asked("--line") && !port) return wait_exit(context, id, end, !format.empty());
    Target target = find_target(context, id, "wait");
    return port ? wait_port(target, static_cast<std::uint16_t>(*port), path, end)
                : wait_log(context, target, regex, end);
  } catch (const TimedOut&) {
    return kTimedOut;
  }
}

}  // namespace runner::cli
