#include "runner/oci/features.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "isolate/namespaces.h"
#include "isolate/privileges.h"
#include "runner/oci/config.h"
#include "runner/oci/mount_options.h"
#include "runner/oci/seccomp_words.h"

namespace runner::oci {

namespace {

std::vector<std::string> namespace_names() {
  std::vector<std::string> names;
  for (int i = 0; i <= static_cast<int>(isolate::NamespaceKind::Time); ++i)
    names.emplace_back(isolate::namespace_name(static_cast<isolate::NamespaceKind>(i)));
  std::sort(names.begin(), names.end());
  return names;
}

std::vector<std::string> capability_names() {
  std::vector<std::string> names;
  for (int c = 0; c <= isolate::last_capability(); ++c) names.push_back(isolate::capability_name(c));
  return names;
}

}  // namespace

const std::vector<std::string>& hook_names() {
  static const std::vector<std::string> names{"prestart",       "createRuntime", "createContainer",
                                              "startContainer", "poststart",     "poststop"};
  return names;
}

std::string features_json() {
  using Json = nlohmann::ordered_json;
  Json linux = {
      {"namespaces", namespace_names()},
      {"capabilities", capability_names()},
      {"cgroup", {{"v1", true}, {"v2", true}, {"systemd", true}, {"systemdUser", true}, {"rdma", true}}},
      {"seccomp",
       {{"enabled", true},
        {"actions", seccomp_actions()},
        {"operators", seccomp_operators()},
        {"archs", seccomp_architectures()},
        {"knownFlags", seccomp_flags()},
        {"supportedFlags", seccomp_flags()}}},
      {"apparmor", {{"enabled", true}}},
      {"selinux", {{"enabled", false}}},
      {"intelRdt", {{"enabled", false}}},
      {"mountExtensions", {{"idmap", {{"enabled", true}}}}},
  };
  Json features = {
      {"ociVersionMin", kOldestVersion},
      {"ociVersionMax", kNewestVersion},
      {"hooks", hook_names()},
      {"mountOptions", mount_option_names()},
      {"linux", linux},
      {"annotations", {{"org.opencontainers.runc.checkpoint.enabled", "true"}}},
      // By prefix: all annotations of our own change what a container may do.
      {"potentiallyUnsafeConfigAnnotations", Json::array({kAnnotationPrefix})},
  };
  return features.dump(4);
}

}  // namespace runner::oci
