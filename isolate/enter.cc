#include "isolate/enter.h"

#include <linux/capability.h>
#include <sched.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <stdexcept>

#include "isolate/birth.h"
#include "isolate/execute.h"
#include "isolate/namespaces.h"
#include "isolate/privileges.h"
#include "isolate/sys/error.h"
#include "isolate/sys/file.h"
#include "isolate/sys/socket.h"

namespace isolate {

using namespace sys;

namespace {

constexpr unsigned kMostNotes = 100;  // they wait in the socket until finish() reads them
constexpr std::size_t kLongestNote = 1000;

constexpr std::uint64_t bit(int capability) { return std::uint64_t{1} << capability; }

// Not as root inside: where the workspace's owner alone is mapped, root could make no file (EOVERFLOW), and what it makes would have to be
// given away afterwards, by a name that may mean another file by then.
Process identity(const Place& place) {
  Process process;
  process.uid = place.uid;
  process.gid = place.gid;
  std::uint64_t files =
      bit(CAP_CHOWN) | bit(CAP_DAC_OVERRIDE) | bit(CAP_DAC_READ_SEARCH) | bit(CAP_FOWNER) | bit(CAP_FSETID);
  process.capabilities.bounding = process.capabilities.effective = process.capabilities.permitted = files;
  return process;
}

}  // namespace

void Report::note(const std::string& text) {
  if (++notes_ <= kMostNotes) send_message(socket_, "N" + text.substr(0, kLongestNote));
}

void Report::end() {
  if (notes_ > kMostNotes) send_message(socket_, fmt::format("N{} more like these", notes_ - kMostNotes));
}

Helper::Helper(const Place& place, std::vector<int> keep, const std::function<void(Report&)>& work) {
  int namespaces = shares_namespace(place.pid, NamespaceKind::User) ? 0 : CLONE_NEWUSER;
  if (place.mounts) {
    if (shares_namespace(place.pid, NamespaceKind::Mount))
      throw std::runtime_error("it has no mount namespace of its own, so no files of its own");
    namespaces |= CLONE_NEWNS;
  }
  if (place.network && !shares_namespace(place.pid, NamespaceKind::Network)) namespaces |= CLONE_NEWNET;
  Process process = identity(place);
  auto [ours, theirs] = socket_pair();

  std::optional<Birth> birth(std::in_place, std::nullopt);
  child_ = clone_process(0);
  if (child_.pid() == 0) {
    int status = 1;
    try {
      ours.close();
      die_with_parent();
      reset_signals();
      ::signal(SIGPIPE, SIG_IGN);
      ::umask(022);
      if (namespaces) check(::setns(place.pidfd, namespaces), "join the namespaces of process {}", place.pid);
      if (place.mounts) check(::chdir("/"), "enter directory {}", "/");
      become_user(process, process.capabilities, false);
      forbid_new_privileges();
      die_with_parent();  // the change of user has undone it
      keep.insert(keep.end(), {theirs.get(), place.pidfd});
      close_from(3, keep);
      Report report(theirs.get());
      work(report);
      report.end();
      status = 0;
    } catch (const std::exception& error) {
      try {
        send_message(theirs.get(), "E" + std::string(error.what()).substr(0, 8192));
      } catch (const std::exception&) {
        // the parent is gone
      }
    }
    ::_exit(status);
  }
  birth.reset();
  report_ = std::move(ours);
}

std::vector<std::string> Helper::finish() {
  std::vector<std::string> notes;
  std::string error;
  while (auto message = receive_message(report_.get())) {
    if (message->bytes[0] == 'N') notes.push_back(message->bytes.substr(1));
    if (message->bytes[0] == 'E') error = message->bytes.substr(1);
  }
  Exit exit = child_.wait();
  if (!error.empty()) throw std::runtime_error(error);
  if (exit != Exit{})
    throw std::runtime_error(
        fmt::format("the helper inside the sandbox was ended (status {}, signal {})", exit.code, exit.signal));
  return notes;
}

void Helper::stop() { child_ = Child(); }

}  // namespace isolate
