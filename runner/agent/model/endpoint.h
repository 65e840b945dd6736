// Where the requests go: one host, found before the program locks itself in, and no other one after.
#pragma once

#include <string>

namespace runner::agent::model {

struct Endpoint {
  std::string origin;   // "https://host:443"
  std::string resolve;  // "host:443:address,address", as libcurl wants it; empty when the host is an address
  bool encrypted = true;
};

/// Resolves the host of a URL. Throws std::runtime_error when it cannot, and when the key would travel in the open: http is for this
/// machine, unless `allow_http`.
Endpoint find_endpoint(const std::string& base_url, bool allow_http);

}  // namespace runner::agent::model
