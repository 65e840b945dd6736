#include "criu-hooks/network.h"

#include <fcntl.h>
#include <sched.h>
#include <unistd.h>

#include "isolate/network.h"
#include "isolate/sys/error.h"
#include "isolate/sys/file.h"

namespace criu_hooks {

using namespace isolate::sys;

namespace {

// In another namespace for as long as it lives.
class Visit {
 public:
  Visit(pid_t pid, const char* name, int kind) : kind_(kind), home_(open_file(fmt::format("/proc/self/ns/{}", name), O_RDONLY)) {
    Fd there = open_file(fmt::format("/proc/{}/ns/{}", pid, name), O_RDONLY);
    check(::setns(there.get(), kind), "enter the {} namespace of process {}", name, pid);
  }
  ~Visit() {
    if (::setns(home_.get(), kind_) == -1) ::abort();  // nothing may go on in the wrong one
  }

 private:
  int kind_;
  Fd home_;
};

}  // namespace

void prepare_namespaces(pid_t pid, const std::string& hostname) {
  {
    Visit network(pid, "net", CLONE_NEWNET);
    isolate::bring_up_loopback();
  }
  Visit names(pid, "uts", CLONE_NEWUTS);
  check(::sethostname(hostname.data(), hostname.size()), "set host name {}", hostname);
}

}  // namespace criu_hooks
