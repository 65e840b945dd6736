// logs: the events of a session, from its beginning or a later place, and as they come.
#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <memory>
#include <stdexcept>

#include "isolate/sys/error.h"
#include "isolate/sys/file.h"
#include "runner/cli/sessions.h"
#include "runner/events/verify.h"

namespace runner::cli {

using namespace isolate::sys;

namespace {

constexpr std::size_t kChunk = 1 << 16;
constexpr std::size_t kEnvelope = 1024;  // where `sequence` and `type` stand in a line, whatever its data

// A log that may be growing. Only whole lines leave it.
class Log {
 public:
  Log(std::string path, Fd file) : path_(std::move(path)), file_(std::move(file)) {}

  /// Where the lines behind event `sequence` begin.
  off_t behind(std::uint64_t sequence) const {
    Fd again(check(::fcntl(file_.get(), F_DUPFD_CLOEXEC, 0), "read {}", path_));
    std::unique_ptr<std::FILE, int (*)(std::FILE*)> stream(::fdopen(again.get(), "r"), std::fclose);
    if (!stream) fail(errno, "read {}", path_);
    again.release();
    char* line = nullptr;
    std::size_t room = 0;
    off_t at = 0;
    for (ssize_t size; (size = ::getline(&line, &room, stream.get())) > 0; at += size) {
      std::string_view envelope(line, std::min(static_cast<std::size_t>(size), kEnvelope));
      std::string digits(events::envelope_field(envelope, "sequence"));
      if (std::strtoull(digits.c_str(), nullptr, 10) > sequence) break;
    }
    std::free(line);
    return at;
  }

  /// Where the last `count` lines begin: behind the newline that comes before them, searched for from the end.
  off_t last(std::uint64_t count) const {
    char bytes[kChunk];
    std::uint64_t newlines = 0;
    for (off_t end = size(); end > 0;) {
      off_t from = std::max<off_t>(0, end - static_cast<off_t>(sizeof bytes));
      ssize_t got = check(::pread(file_.get(), bytes, static_cast<std::size_t>(end - from), from), "read {}", path_);
      for (ssize_t i = got - 1; i >= 0; --i)
        if (bytes[i] == '\n' && newlines++ == count) return from + i + 1;
      end = from;
    }
    return 0;
  }

  void go_to(off_t at) { at_ = at; }

  /// Prints the whole lines that are there by now.
  void print() {
    // A line that could not be written whole was cut off again.
    if (off_t now = size(); now < at_) at_ = last(0), part_.clear();
    char bytes[kChunk];
    for (ssize_t got; (got = check(::pread(file_.get(), bytes, sizeof bytes, at_), "read {}", path_)) > 0; at_ += got) {
      std::string_view text(bytes, static_cast<std::size_t>(got));
      std::size_t newline = text.rfind('\n');
      if (newline == std::string_view::npos) {
        part_.append(text);
        continue;
      }
      part_.append(text.substr(0, newline + 1));
      write_all(STDOUT_FILENO, part_);
      note_last(part_);
      part_.assign(text.substr(newline + 1));
    }
  }

  /// Whether session.ended has been printed, or was the last line before we began.
  bool has_ended() {
    char bytes[kEnvelope];
    if (!ended_ && at_ == size() && part_.empty()) {
      ssize_t got = check(::pread(file_.get(), bytes, sizeof bytes, last(1)), "read {}", path_);
      if (got > 1) note_last({bytes, static_cast<std::size_t>(got)});
    }
    return ended_;
  }

 private:
  off_t size() const {
    struct stat info;
    check(::fstat(file_.get(), &info), "look at {}", path_);
    return info.st_size;
  }

  // session.ended comes once, and last.
  void note_last(std::string_view lines) {
    if (lines.back() == '\n') lines.remove_suffix(1);
    std::size_t before = lines.rfind('\n');
    std::string_view line = before == std::string_view::npos ? lines : lines.substr(before + 1);
    ended_ = events::envelope_field(line.substr(0, kEnvelope), "type") == "session.ended";
  }

  std::string path_, part_;
  Fd file_;
  off_t at_ = 0;
  bool ended_ = false;
};

// Until session.ended. A change of the file wakes us, and so does the end of PID 1: a supervisor that is killed writes no last line.
// The end of our reader is looked out for too, as a quiet session would let us wait for a reason to write to nobody.
void follow(Context& context, const std::string& id, const std::string& path, Log& log) {
  Fd changes(check(::inotify_init1(IN_CLOEXEC | IN_NONBLOCK), "watch {}", path));
  check(::inotify_add_watch(changes.get(), path.c_str(), IN_MODIFY), "watch {}", path);
  std::optional<session::State> state;  // none of one whose run directory a reboot has taken
  if (session::Entry::find(context.directories(), id)) state = find_session(context, id).state;
  Fd process = state ? session::open_process(*state) : Fd();
  log.print();
  for (bool over = false; !log.has_ended() && !over;) {
    pollfd wait[] = {{changes.get(), POLLIN, 0}, {process ? process.get() : -1, POLLIN, 0}, {STDOUT_FILENO, 0, 0}};
    if (::poll(wait, 3, process ? -1 : 100) == -1 && errno != EINTR) fail(errno, "wait for events");
    char events[4096];
    while (::read(changes.get(), events, sizeof events) > 0) {
    }
    if (wait[2].revents & POLLERR) return;
    if (wait[1].revents) process.close();
    over = !process && !(state && goes_on(context, id, *state));  // asked before the last look at the log
    log.print();
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
    fmt::print("{}: {} events, none missing, none changed\n", path, result.lines);
    return 0;
  }
  Log log(path, open_file(path, O_RDONLY | O_NOFOLLOW));
  off_t start = behind ? log.behind(*behind) : 0;
  if (last) start = std::max(start, log.last(*last));
  log.go_to(start);
  if (follows)
    follow(context, id, path, log);
  else
    log.print();
  return 0;
}

}  // namespace runner::cli
