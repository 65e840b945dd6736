// The parts of config.json, each read by a file of its own; config.cc puts them in order. Not for others.
#pragma once

#include <string>
#include <vector>

#include "isolate/plan.h"
#include "runner/oci/config.h"
#include "runner/oci/json.h"

namespace runner::oci {

/// The one behind it is -1, which means "leave it" to setresuid(2) and chown(2): who asks for it would stay root.
inline constexpr std::uint32_t kLastId = 4294967294;

using Warnings = std::vector<std::string>;

template <typename... Args>
void warn(Warnings& warnings, fmt::format_string<const Args&...> text, const Args&... args) {
  if (warnings.size() < json::kMostMistakes) warnings.push_back(fmt::format(text, args...));
}

/// For a setting that is not built yet. Whoever asks for it must not believe that it is in force.
inline void refuse(json::Value field, const char* why = "is not supported by this version") {
  if (!field.blank()) field.wrong("{}", why);
}

/// Absolute, without "..", in its shortest form: "/a//b/./" is "/a/b". Empty, and said, when it is not.
std::string absolute_path(json::Value field, const std::string& path);

bool maps(const std::vector<isolate::IdRange>& ranges, std::uint32_t id);

// config_process.cc
void read_process(json::Value process, isolate::Process& to, const isolate::Capabilities& otherwise,
                  Warnings& warnings);

// config_linux.cc
void read_namespaces(json::Value linux, Container& to, const LoadOptions& options);
void read_id_ranges(json::Value list, std::vector<isolate::IdRange>& to);
void read_paths(json::Value linux, isolate::Plan& to);
void read_sysctl(json::Value linux, isolate::Plan& to, const LoadOptions& options);
void read_time_offsets(json::Value linux, isolate::Plan& to);
void read_personality(json::Value linux, isolate::Process& to);
void refuse_unsupported(json::Value linux);

// config_mounts.cc
void read_mounts(json::Value config, Container& to);

// config_devices.cc: nodes, and which of them the cgroup lets through
void read_devices(json::Value linux, Container& to);
void read_device_rules(json::Value resources, std::vector<isolate::DeviceRule>& to);
void add_default_device_rules(const isolate::Plan& plan, std::vector<isolate::DeviceRule>& to);

// config_resources.cc
void read_cgroup(json::Value linux, Container& to, const LoadOptions& options);

// config_seccomp.cc
void read_seccomp(json::Value linux, isolate::Plan& to);

// config_hooks.cc
void read_hooks(json::Value config, isolate::Hooks& to);

}  // namespace runner::oci
