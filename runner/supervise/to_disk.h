// A session that falls asleep goes to disk, where that is wanted: by a `runner suspend` of its own, a client as any other.
#pragma once

#include <functional>
#include <optional>
#include <string>

#include "isolate/sys/child.h"
#include "isolate/sys/fd.h"

namespace runner::supervise {

/// Starts that process; what it complains of goes to `err`.
using Suspend = std::function<isolate::sys::Child(int err)>;

class ToDisk {
 public:
  explicit ToDisk(Suspend start) : start_(std::move(start)) {}
  ~ToDisk();

  /// False when there is no way, or when it was tried before: then the session sleeps in memory.
  bool begin();
  int fd() const { return child_.pidfd(); }  ///< readable when check() has something to do; -1: never
  /// Why the session is still here, once.
  std::optional<std::string> check();

 private:
  Suspend start_;
  isolate::sys::Child child_;
  isolate::sys::Fd complaints_;
};

}  // namespace runner::supervise
