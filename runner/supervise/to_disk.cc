#include "runner/supervise/to_disk.h"

#include <unistd.h>

#include "isolate/sys/error.h"
#include "isolate/sys/file.h"

namespace runner::supervise {

using namespace isolate::sys;

// It waits for the end of the session, which is ours.
ToDisk::~ToDisk() { child_.release(); }

bool ToDisk::begin() {
  if (!start_) return false;
  if (child_.pid()) return true;
  complaints_ = memory_file("complaints", "");
  child_ = start_(complaints_.get());
  return true;
}

std::optional<std::string> ToDisk::check() {
  if (!child_.pid()) return {};
  auto exit = child_.try_wait();
  if (!exit) return {};
  child_ = Child();
  if (*exit == Exit{}) return {};  // somebody else was faster, and it was woken since
  start_ = nullptr;
  std::string why = read_file("/proc/self/fd/" + std::to_string(complaints_.get()));
  if (why.starts_with("runner: ")) why.erase(0, 8);
  return why.substr(0, why.find('\n'));
}

}  // namespace runner::supervise
