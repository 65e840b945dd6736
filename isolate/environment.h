// Variables as execve(2) takes them: "NAME=value".
#pragma once

#include <string>
#include <vector>

namespace isolate {

/// In the place of what has the same name. Of two with one name getenv(3) finds the first and a shell the last.
inline void set_variable(std::vector<std::string>& env, const std::string& entry) {
  std::string name = entry.substr(0, entry.find('=') + 1);
  std::erase_if(env, [&](const std::string& old) { return old.rfind(name, 0) == 0; });
  env.push_back(entry);
}

}  // namespace isolate
