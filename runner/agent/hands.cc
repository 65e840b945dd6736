#include "runner/agent/hands.h"

#include <fmt/format.h>
#include <unistd.h>

#include <stdexcept>

#include "isolate/sys/error.h"
#include "isolate/sys/socket.h"

namespace runner::agent {

using namespace isolate::sys;

// "VERB SESSION TO", and back "+TEXT", with a descriptor where one is wanted, "-REASON", or "!REASON" where no session can be had.
Fd Hands::ask(const std::string& verb, const std::string& session, const std::string& to, std::string* said, bool wants_fd) {
  std::lock_guard lock(mutex_);
  std::optional<Message> answer;
  try {
    send_message(socket_.get(), fmt::format("{} {} {}", verb, session, to));
    answer = receive_message(socket_.get());
  } catch (const SystemError&) {
  }
  // The keeper was killed, and so are we: what was not done yet is no failed call. Who takes up the job goes on from the journal.
  constexpr int kRunnerFailed = 125;
  if (!answer || answer->bytes.empty()) ::_exit(kRunnerFailed);
  if (answer->bytes[0] == '!') throw NoSession(answer->bytes.substr(1));
  if (answer->bytes[0] == '-') throw std::runtime_error(answer->bytes.substr(1));
  if (said) *said = answer->bytes.substr(1);
  if (!wants_fd) return {};
  if (answer->fds.empty()) throw std::runtime_error(fmt::format("{} session {}: no descriptor came", verb, session));
  return std::move(answer->fds[0]);
}

Fd Hands::connect(const std::string& session, std::string* identity) { return ask("connect", session, "", identity, true); }
Fd Hands::open_log(const std::string& session) { return ask("log", session, "", nullptr, true); }
void Hands::keep(const std::string& session) { ask("keep", session, "", nullptr, false); }
void Hands::fork(const std::string& session, const std::string& to) { ask("fork", session, to, nullptr, false); }
void Hands::end(const std::string& session) { ask("end", session, "", nullptr, false); }
Fd Hands::model() { return ask("model", "", "", nullptr, true); }

std::string Hands::suspend(const std::string& session) {
  std::string snapshot;
  ask("suspend", session, "", &snapshot, false);
  return snapshot;
}

}  // namespace runner::agent
