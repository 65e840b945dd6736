#include "runner/cli/container_events.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <unistd.h>

#include <memory>

#include "isolate/sys/error.h"
#include "isolate/sys/file.h"
#include "isolate/sys/socket.h"
#include "runner/events/trace.h"
#include "runner/events/writer.h"
#include "runner/oci/config.h"

namespace runner::cli {

using namespace isolate::sys;

namespace {

// A reader that does not read holds nobody up for long.
constexpr timeval kPatience{1, 0};

Fd receiver(const std::string& path) {
  struct stat info;
  bool there = ::stat(path.c_str(), &info) == 0;
  if (there && S_ISSOCK(info.st_mode)) {
    Fd socket = connect_to(path, SOCK_STREAM);
    check(::setsockopt(socket.get(), SOL_SOCKET, SO_SNDTIMEO, &kPatience, sizeof kPatience), "limit the time of a write to {}", path);
    return socket;
  }
  if (there && !S_ISREG(info.st_mode)) fail(EINVAL, "write events to {}, which is neither a file nor a socket", path);
  return Fd(check(::open(path.c_str(), O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600), "open {} for events", path));
}

// The stream of a container is one, whichever commands tell it: its numbers and its chain are kept beside its state.
events::Writer open_stream(const session::Entry& entry) {
  std::string log = entry.file("events.ndjson"), source = "runner/container/" + entry.id();
  if (::access(log.c_str(), F_OK) == 0) return events::Writer::resume(log, source);
  return events::Writer::create(log, source, events::caller_traceparent());
}

}  // namespace

void check_receiver(const std::string& path) {
  try {
    receiver(path);
  } catch (const SystemError& error) {
    throw std::runtime_error(fmt::format("annotation {}events: {}", oci::kAnnotationPrefix, error.what()));
  }
}

void tell(const session::Entry& entry, const session::State& state, const events::Event& event) {
  auto asked = state.annotations.find(std::string(oci::kAnnotationPrefix) + "events");
  if (asked == state.annotations.end()) return;
  auto before = ::signal(SIGPIPE, SIG_IGN);
  try {
    Fd turn(check(::open(entry.file("events.lock").c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600), "open {}", "events.lock"));
    check(::flock(turn.get(), LOCK_EX), "lock {}", "events.lock");
    events::Writer stream = open_stream(entry);
    Fd out = receiver(asked->second);
    stream.add(std::make_unique<events::FdSink>(out.get()));
    stream.write(event);
  } catch (const std::exception& error) {
    fmt::print(stderr, "runner: warning: container {}: an event was not told: {}\n", entry.id(), error.what());
  }
  ::signal(SIGPIPE, before);
}

}  // namespace runner::cli
