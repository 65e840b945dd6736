// The scope that systemd makes for a container under --systemd-cgroup: org.freedesktop.systemd1(5), "transient units".
//
// A scope needs a process from its first moment on. That is runner-systemd (main.cc), which talks D-Bus for us: it stays in the scope until
// the container is born in it. A scope whose last process has gone goes away by itself.
#pragma once

#include <string>
#include <vector>

#include "isolate/plan.h"
#include "isolate/sys/child.h"
#include "isolate/sys/fd.h"

namespace runner::systemd {

/// The limits that systemd knows, so that it does not undo them when it reloads: "MemoryMax=t:1048576". All others are set in the group alone.
std::vector<std::string> properties_of(const isolate::Limits& limits);

/// Owns the process that keeps a new scope alive; when destroyed it lets go of the scope.
class Scope {
 public:
  /// Whoever calls as root asks the system's manager, anybody else that of their own. `program` is runner-systemd. Throws with systemd's words.
  static Scope start(const std::string& program, const std::string& unit, const std::string& slice, const std::string& description,
                     const isolate::Limits& limits);

  const std::string& cgroup() const { return cgroup_; }  ///< as /proc/PID/cgroup has it

 private:
  isolate::sys::Child keeper_;
  isolate::sys::Fd hold_;
  std::string cgroup_;
};

void change_scope(const std::string& program, const std::string& unit, const isolate::Limits& limits);
void stop_scope(const std::string& program, const std::string& unit);  ///< that there is none is no error

}  // namespace runner::systemd
