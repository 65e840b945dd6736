// What the host knows of a context: the file code-CONTEXT in the session's entry. Who holds its lock runs a cell, and the others wait; what it
// holds is the language. It is empty as long as the context has never been ready, so one whose beginner died on the way is known.
#pragma once

#include <string>
#include <vector>

#include "isolate/sys/fd.h"

namespace runner::code {

class Record {
 public:
  /// Makes the file if there is none. `entry` is the session's directory.
  Record(const std::string& entry, const std::string& context);

  void lock();        ///< waits for those who came before
  bool busy() const;  ///< whether somebody holds it
  std::string language() const;
  void set_language(const std::string& language);

 private:
  std::string path_;
  isolate::sys::Fd file_;
};

/// Every context that there ever was in this session.
std::vector<std::string> recorded_contexts(const std::string& entry);

}  // namespace runner::code
