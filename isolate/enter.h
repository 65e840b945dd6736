// A helper of ours inside a running sandbox: a fork of this process in some of the sandbox's namespaces, which runs our own code and
// nothing that it finds there. What it resolves, it resolves as a process inside would: no path of the sandbox is ever looked up by
// somebody who sees the host's files (CVE-2018-15664), and a static program loads no library from there (CVE-2019-14271).
//
// It is not in the sandbox's pid namespace, so nobody inside sees it, and not in its cgroup, so that it works on a frozen one.
// It holds the sandbox's namespaces alive: its loop must end when `Place::pidfd` becomes readable.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "isolate/sys/child.h"
#include "isolate/sys/fd.h"

namespace isolate {

struct Place {
  int pidfd = -1;  // of a process of the sandbox; the caller has checked that it is the right one
  pid_t pid = 0;
  bool mounts = false, network = false;  // which namespaces, beside the user namespace
  std::uint32_t uid = 0, gid = 0;        // who the helper is, in the ids of the sandbox
};

/// How the helper tells its parent something; see Helper::finish().
class Report {
 public:
  explicit Report(int socket) : socket_(socket) {}
  /// A remark that stops nothing. After a hundred only their number is told.
  void note(const std::string& text);
  void end();  ///< tells the number

 private:
  int socket_;
  unsigned notes_ = 0;
};

class Helper {
 public:
  /// Runs `work` in the helper, where only the standard descriptors and `keep` are open, with root's rights over
  /// files, as the sandbox's user namespace gives them, and no other. The caller must be single-threaded and must close its copies of `keep`.
  Helper(const Place& place, std::vector<int> keep, const std::function<void(Report&)>& work);

  /// Waits for its end; returns its notes. Throws what `work` threw, as std::runtime_error.
  std::vector<std::string> finish();
  void stop();  ///< kills it

 private:
  sys::Child child_;
  sys::Fd report_;
};

}  // namespace isolate
