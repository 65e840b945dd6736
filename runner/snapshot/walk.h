// A tree of files that stands still, from top to bottom, with two descriptors at a time however deep it is.
#pragma once

#include <sys/stat.h>

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "isolate/sys/fd.h"

namespace runner::snapshot {

/// Longer paths are an error: no path of the kernel's could name them.
inline constexpr std::size_t kLongestPath = 4000;

/// `dir` is the directory that has `name`; `path` is from the top, without a slash before it, and "." for the top itself.
class Visitor {
 public:
  virtual ~Visitor() = default;
  /// Anything but a directory.
  virtual void entry(int dir, const std::string& name, const std::string& path, const struct stat& info) = 0;
  /// A directory, before what is in it; `self` is its descriptor, open for reading.
  virtual void enter(int self, const std::string& name, const std::string& path, const struct stat& info) = 0;
  /// The same one, behind all that is in it.
  virtual void leave(int self, const std::string& path, const struct stat& info) = 0;
};

/// Calls for the top too (enter and leave). In each directory first come the names that are no directories, then these, each by bytes:
/// the same tree gives the same calls. Symbolic links and other mounts are not followed.
void walk(isolate::sys::Fd top, Visitor& visitor);

/// Calls `take` for each part of the file before `size` that is no hole, in order: lseek(2). `path` is for messages. A file of a program may
/// be nothing but a hole of many terabytes, so whoever reads one goes by this.
void each_data(int fd, const std::string& path, std::uint64_t size, const std::function<void(std::uint64_t from, std::uint64_t to)>& take);

/// Names in a directory without . and .., sorted. The descriptor's position is used and does not matter.
std::vector<std::string> names_in(int dir, const std::string& path);

}  // namespace runner::snapshot
