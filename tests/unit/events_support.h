// What the tests of the events share: streams that are the same each time, and folders for logs.
#pragma once

#include <stdlib.h>

#include <filesystem>
#include <fstream>
#include <memory>
#include <sstream>
#include <string>
#include <vector>

#include "runner/events/writer.h"

namespace tests {

inline constexpr std::int64_t kTen = 1795168800123456;  // 2026-11-20T10:00:00.123456Z
inline constexpr const char* kSource = "runner/session/s-7f3a";

/// A clock that stands still, and "random" bytes that count up.
inline runner::events::Sources fixed_sources(std::int64_t now = kTen) {
  auto last = std::make_shared<char>(0);
  auto random = [last](std::size_t count) {
    std::string bytes;
    while (bytes.size() < count) bytes += ++*last;
    return bytes;
  };
  return {[now] { return now; }, random};
}

inline std::vector<std::string> lines_of(const std::string& text) {
  std::vector<std::string> lines;
  std::istringstream in(text);
  for (std::string line; std::getline(in, line);) lines.push_back(line);
  return lines;
}

struct LogFolder {
  LogFolder() {
    char name[] = "/tmp/events-test-XXXXXX";
    path = ::mkdtemp(name);
    log = path + "/events.ndjson";
  }
  ~LogFolder() { std::filesystem::remove_all(path); }
  std::string path, log;
};

inline std::string read(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}
inline void put(const std::string& path, const std::string& text) { std::ofstream(path, std::ios::binary) << text; }

}  // namespace tests
