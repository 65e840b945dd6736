// The workspace and every way into it. Paths come from a model: each is kept below the workspace, whatever
// `..` and symbolic links say and whoever changes them meanwhile.
#pragma once

#include <sys/stat.h>

#include <stdexcept>
#include <string>

#include "isolate/sys/fd.h"

namespace runner::tools {

/// A sentence for the model: what was not done, and why.
struct Refused : std::runtime_error {
  using std::runtime_error::runtime_error;
};

/// The folder of a file and its name there. The last name is not followed.
struct Place {
  isolate::sys::Fd folder;  // O_PATH
  std::string name;
};

class Workspace {
 public:
  explicit Workspace(const std::string& path);

  /// Follows symbolic links that stay inside. Throws Refused.
  isolate::sys::Fd open(const std::string& path, int flags, mode_t mode = 0) const;
  /// A regular file; opening a FIFO or a device never blocks, and is refused.
  isolate::sys::Fd open_file(const std::string& path, int flags, mode_t mode = 0) const;
  /// What names no file (`.`, `a/..`, the workspace itself) is refused.
  Place place(const std::string& path) const;
  Place make_place(const std::string& path) const;  ///< and makes the folders that are missing
  /// Whether there was something to make.
  bool make_dir(const std::string& path) const;
  bool is_top(const std::string& path) const { return relative(path) == "."; }

  const std::string& path() const { return path_; }

 private:
  std::string relative(const std::string& path) const;
  int open_beneath(const std::string& relative, int flags, mode_t mode) const;

  std::string path_;
  isolate::sys::Fd top_;
};

/// Why the kernel refused a path, as a sentence.
[[noreturn]] void refuse(int code, const std::string& path);
/// "a directory", "a FIFO", "a symbolic link"
std::string kind_of(mode_t mode);

}  // namespace runner::tools
