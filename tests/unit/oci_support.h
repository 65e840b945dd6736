// What the tests of runner/oci share: a small valid config.json to change, and its reading without a file system.
#pragma once

#include <doctest/doctest.h>

#include <nlohmann/json.hpp>

#include "runner/oci/config.h"

namespace runner::oci::test {

using Json = nlohmann::json;

inline Json plain_config() {
  return Json::parse(R"({
    "ociVersion": "1.2.0",
    "process": {"args": ["sh"], "cwd": "/"},
    "root": {"path": "rootfs"},
    "linux": {"namespaces": [{"type": "mount"}, {"type": "pid"}]}
  })");
}

inline void add_namespace(Json& config, const std::string& type, const std::string& path = {}) {
  Json entry{{"type", type}};
  if (!path.empty()) entry["path"] = path;
  config["linux"]["namespaces"].push_back(entry);
}

inline void add_user_namespace(Json& config) {
  add_namespace(config, "user");
  config["linux"]["uidMappings"] = config["linux"]["gidMappings"] =
      Json::parse(R"([{"containerID": 0, "hostID": 100000, "size": 1000}])");
}

inline LoadOptions plain_options() {
  LoadOptions options;
  options.id = "c1";
  options.look_at_files = false;
  return options;
}

/// The container of a config that must be right.
inline Container good(const Json& config, const LoadOptions& options = plain_options()) {
  Diagnostics wrong;
  auto container = read_config(config.dump(), "config.json", "/bundle", options, wrong);
  INFO(wrong.text());
  REQUIRE(container);
  return *container;
}

/// All that is said about one that must be wrong, a line each.
inline std::string mistakes(const Json& config, const LoadOptions& options = plain_options()) {
  Diagnostics wrong;
  CHECK(!read_config(config.dump(), "config.json", "/bundle", options, wrong));
  return wrong.text();
}

}  // namespace runner::oci::test
