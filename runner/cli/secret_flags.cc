#include "runner/cli/secret_flags.h"

#include <fmt/format.h>
#include <stdlib.h>

#include <sstream>

#include "isolate/sys/file.h"

namespace runner::cli {

void SecretFlags::declare(Options& options) {
  options.values("--secret-env", variables, "look for the value that this variable of runner's own environment has");
  options.values("--secret-file", files, "look for each line of this file");
}

snapshot::Secrets SecretFlags::read() const try {
  snapshot::Secrets secrets;
  for (const std::string& name : variables) {
    const char* value = ::getenv(name.c_str());
    if (!value) throw UsageError(fmt::format("--secret-env: {} is not in runner's environment (sudo takes variables away: `sudo --preserve-env={}`)", name, name));
    secrets.add("env:" + name, value);
  }
  for (const std::string& file : files) {
    std::istringstream lines(isolate::sys::read_file(file));
    std::size_t number = 1;
    for (std::string line; std::getline(lines, line); ++number) {
      if (line.ends_with('\r')) line.pop_back();
      if (!line.empty()) secrets.add(fmt::format("file:{}:{}", file, number), line);
    }
    if (number == 1) throw UsageError(fmt::format("--secret-file: {} is empty", file));
  }
  return secrets;
} catch (const UsageError&) {
  throw;
} catch (const std::exception& error) {
  throw UsageError(error.what());
}

}  // namespace runner::cli
