#include "runner/session/last_words.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <nlohmann/json.hpp>

#include "isolate/sys/error.h"
#include "isolate/sys/file.h"

namespace runner::session {

using namespace isolate::sys;

void leave_last_words(const Entry& entry, const State& state) {
  Fd file(::open(entry.file("lock").c_str(), O_WRONLY | O_CLOEXEC | O_NOFOLLOW));
  std::string text = nlohmann::json{{"result", state.result}, {"exitCode", state.exit_code}, {"finished", state.finished}}.dump();
  // In one piece: a witness sees all of it or nothing. A session's end does not depend on it.
  if (file) (void)!::pwrite(file.get(), text.data(), text.size(), 0);
}

Witness::Witness(const Entry& entry) : path_(entry.file("lock")), lock_(open_file(path_, O_RDONLY | O_NOFOLLOW)) {}

bool Witness::stands() const {
  struct stat ours, there;
  return ::fstat(lock_.get(), &ours) == 0 && ::lstat(path_.c_str(), &there) == 0 && ours.st_dev == there.st_dev && ours.st_ino == there.st_ino;
}

std::optional<LastWords> Witness::last_words() const {
  char text[4096];
  ssize_t size = ::pread(lock_.get(), text, sizeof text, 0);
  auto said = nlohmann::json::parse(text, text + std::max<ssize_t>(size, 0), nullptr, false);
  if (!said.is_object()) return std::nullopt;
  return LastWords{said.value("result", ""), said.value("finished", ""), said.value("exitCode", -1)};
}

}  // namespace runner::session
