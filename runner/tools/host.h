// The conversation of protocol.h, as a function from frame to frame.
#pragma once

#include <stdexcept>
#include <string>
#include <string_view>

#include "runner/tools/journal.h"
#include "runner/tools/workspace.h"

namespace runner::tools {

/// Not the protocol. The conversation cannot go on.
struct BadFrame : std::runtime_error {
  using std::runtime_error::runtime_error;
};

class Host {
 public:
  explicit Host(const std::string& workspace) : workspace_(workspace) {}
  /// The JSON to send back; empty: nothing. Throws BadFrame.
  std::string answer(std::string_view json);

 private:
  Workspace workspace_;
  Journal journal_;
};

}  // namespace runner::tools
