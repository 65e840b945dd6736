#include "runner/code/record.h"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include "isolate/sys/error.h"
#include "isolate/sys/file.h"

namespace runner::code {

using namespace isolate::sys;

namespace {

constexpr std::string_view kPrefix = "code-";

}  // namespace

Record::Record(const std::string& entry, const std::string& context)
    : path_(fmt::format("{}/{}{}", entry, kPrefix, context)),
      file_(open_file(path_, O_RDWR | O_CREAT | O_NOFOLLOW, 0600)) {}

void Record::lock() { check(::flock(file_.get(), LOCK_EX), "lock {}", path_); }

bool Record::busy() const {
  if (::flock(file_.get(), LOCK_EX | LOCK_NB) == -1) return true;
  ::flock(file_.get(), LOCK_UN);
  return false;
}

std::string Record::language() const {
  char text[32];
  ssize_t size = check(::pread(file_.get(), text, sizeof text, 0), "read {}", path_);
  return {text, static_cast<std::size_t>(size)};
}

void Record::set_language(const std::string& language) {
  check(::ftruncate(file_.get(), 0), "empty {}", path_);
  check(::pwrite(file_.get(), language.data(), language.size(), 0), "write {}", path_);
}

std::vector<std::string> recorded_contexts(const std::string& entry) {
  std::vector<std::string> contexts;
  for (const std::string& name : list_dir(entry))
    if (name.rfind(kPrefix, 0) == 0) contexts.push_back(name.substr(kPrefix.size()));
  return contexts;
}

}  // namespace runner::code
