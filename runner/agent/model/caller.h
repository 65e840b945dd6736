// The calls themselves: one at a time, over connections that are kept.
#pragma once

#include <memory>
#include <string>

#include "runner/agent/model/endpoint.h"

namespace runner::agent::model {

class Caller {
 public:
  struct Setup {
    Endpoint endpoint;
    std::string auth_name;   // "x-api-key"
    std::string auth_value;  // with the key in it; empty: no such header is sent
    std::string ca;          // certificates to trust, PEM
    int socket = -1;
  };

  /// Makes all that it will need; so before the program locks itself in.
  explicit Caller(Setup setup);
  ~Caller();

  /// Answers requests until the socket ends. Throws std::runtime_error on a frame that makes no sense.
  void serve();

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace runner::agent::model
