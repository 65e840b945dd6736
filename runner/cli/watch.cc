// Changes of files in a session, as events. A helper inside watches (isolate/enter.h, runner/files/watcher.h); it tells this process, which
// alone writes events.
#include <fcntl.h>
#include <poll.h>

#include <cstring>

#include "isolate/sys/error.h"
#include "isolate/sys/file.h"
#include "isolate/sys/paths.h"
#include "runner/cli/awake.h"
#include "runner/cli/inside.h"
#include "runner/config/units.h"
#include "runner/events/writer.h"
#include "runner/files/watcher.h"

namespace runner::cli {

using namespace isolate::sys;
using files::Change;

namespace {

constexpr int kHalfWait = 20;  // ms for the second half of a rename; the kernel queues both at once

// A change on its way from the helper: kind, whether a directory, lengths, names.
struct Head {
  char kind, directory;
  std::uint32_t path, to;
};

void help(const isolate::Place& place, int pipe, const std::string& path, const files::WatchOptions& options) {
  check(::fcntl(pipe, F_SETFL, O_NONBLOCK), "make the pipe not wait");
  Stream out(pipe, place.pidfd, "the pipe of changes");
  std::string bytes;
  auto emit = [&](const Change& change) {
    Head head{static_cast<char>(change.kind), change.directory, static_cast<std::uint32_t>(change.path.size()),
              static_cast<std::uint32_t>(change.to.size())};
    bytes.assign(reinterpret_cast<const char*>(&head), sizeof head);
    bytes += change.path + change.to;
    out.write(bytes);
  };
  Fd root = open_dir("/"), directory = find_below(root.get(), path, Links::InRoot);
  if (!directory) throw std::runtime_error(fmt::format("{} does not exist in it", path));
  struct stat info;
  check(::fstat(directory.get(), &info), "look at {}", path);
  if (!S_ISDIR(info.st_mode)) throw std::runtime_error(fmt::format("{} is not a directory", path));
  files::Watcher watcher(std::move(directory), options, emit);
  watcher.start();
  for (;;) {
    pollfd waits[] = {{watcher.fd(), POLLIN, 0}, {place.pidfd, POLLIN, 0}};
    int ready = ::poll(waits, 2, watcher.half() ? kHalfWait : -1);
    if (ready == -1 && errno != EINTR) fail(errno, "wait for changes");
    if (ready == 0) watcher.flush();
    bool there = watcher.read();
    if (waits[1].revents) return watcher.flush();  // the session has ended, and all its changes are told
    if (!there) throw std::runtime_error(fmt::format("{} was removed, renamed or unmounted", path));
  }
}

events::FileChanged event_of(const Head& head, const std::string& root, const std::string& path,
                             const std::string& to) {
  auto whole = [&](const std::string& below) { return root == "/" ? "/" + below : root + "/" + below; };
  events::FileChanged event;
  switch (static_cast<Change::Kind>(head.kind)) {
    case Change::Kind::Ready:
      event.change = "ready";
      return event;
    case Change::Kind::Overflow:
      event.change = "overflow";
      return event;
    case Change::Kind::Create:
      event.change = "create";
      break;
    case Change::Kind::Modify:
      event.change = "modify";
      break;
    case Change::Kind::Delete:
      event.change = "delete";
      break;
    case Change::Kind::Rename:
      event.change = "rename";
      event.to = whole(to);
      break;
  }
  event.path = whole(path);
  event.directory = head.directory != 0;
  return event;
}

enum class Why { End, Signal, Time };

/// Waits until `fd` is ready, but not for longer than a signal or the end of the time.
Why await(int fd, short events, int signals, std::int64_t end) {
  for (;;) {
    std::int64_t left = end < 0 ? -1 : std::max<std::int64_t>(0, end - now_ms());
    pollfd waits[] = {{signals, POLLIN, 0}, {fd, events, 0}};
    int ready = ::poll(waits, 2, static_cast<int>(std::min<std::int64_t>(left, 1 << 30)));
    if (ready == -1 && errno == EINTR) continue;
    check(ready, "wait for changes");
    if (waits[0].revents) return Why::Signal;
    if (waits[1].revents) return Why::End;
    if (end >= 0 && now_ms() >= end) return Why::Time;
  }
}

Why relay(int pipe, int signals, std::int64_t end, events::Writer& writer, const std::string& root) {
  std::string waiting;
  std::string bytes(64 << 10, '\0');
  for (;;) {
    if (Why why = await(pipe, POLLIN, signals, end); why != Why::End) return why;
    ssize_t got = ::read(pipe, bytes.data(), bytes.size());
    if (got == -1 && errno == EINTR) continue;
    if (check(got, "read the pipe of changes") == 0) return Why::End;
    waiting.append(bytes, 0, static_cast<std::size_t>(got));
    std::size_t at = 0;
    for (Head head; waiting.size() - at >= sizeof head;) {
      std::memcpy(&head, waiting.data() + at, sizeof head);
      std::size_t length = sizeof head + head.path + head.to;
      if (waiting.size() - at < length) break;
      std::string path = waiting.substr(at + sizeof head, head.path),
                  to = waiting.substr(at + sizeof head + head.path, head.to);
      // Before the line is begun: half a line would be worse than none.
      if (Why why = await(1, POLLOUT, signals, end); why != Why::End) return why;
      writer.write(event_of(head, root, path, to));
      at += length;
    }
    waiting.erase(0, at);
  }
}

}  // namespace

int watch_main(Context& context) {
  files::WatchOptions watch;
  std::string timeout;
  Options options("watch", "Print changes of files in a session or container as events: runner watch [flags] ID PATH");
  options.flag("-r,--recursive", watch.recursive, "also what is below its directories");
  options.values("--include", watch.include, "only names like this pattern; with a slash, paths below PATH");
  options.values("--exclude", watch.exclude, "not what is like this pattern, nor what lies below it");
  options.value("--timeout", timeout, "end after this time, with exit status 124");
  std::vector<std::string> arguments = context.parse(options);
  if (arguments.size() != 2) throw UsageError("watch: takes ID and PATH");
  std::optional<std::uint64_t> limit = parse_duration(timeout);
  if (!timeout.empty() && !limit) throw UsageError(fmt::format("--timeout: '{}' is no duration such as 30s", timeout));
  if (arguments[1].empty()) throw UsageError("watch: PATH is empty");
  std::string path = clean_path(arguments[1]);
  Target target = find_target(context, arguments[0], "watch");

  std::int64_t end = limit ? now_ms() + static_cast<std::int64_t>(*limit) : -1;
  auto [read, write] = wide_pipe();
  isolate::Place place = target.place();
  place.mounts = true;
  isolate::Helper helper(place, {write.get()}, [&](isolate::Report&) { help(place, write.get(), path, watch); });
  write.close();
  Fd stays = keep_in_memory(context.entry(target.id), target.state);
  target.awake.close();  // a sleeping session changes no file
  Fd signals = ending_signals();
  try {
    events::Writer writer("runner/session/" + target.id);
    writer.add(std::make_unique<events::FdSink>(1));
    Why why = relay(read.get(), signals.get(), end, writer, path);
    if (why == Why::End) helper.finish();
    return why == Why::Time ? 124 : 0;
  } catch (const std::exception& error) {
    throw std::runtime_error("watch: " + printable(error.what()));
  }
}

}  // namespace runner::cli
