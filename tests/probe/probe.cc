#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "tests/probe/commands.h"

namespace probe {

std::vector<Command>& all_commands() {
  static std::vector<Command> commands;
  return commands;
}

void say(const std::string& key, const std::string& value) {
  std::string line = key + "=" + value + "\n";
  for (std::size_t sent = 0; sent < line.size();) {
    ssize_t done = ::write(1, line.data() + sent, line.size() - sent);
    if (done <= 0) return;
    sent += static_cast<std::size_t>(done);
  }
}

void say(const std::string& key, long value) { say(key, std::to_string(value)); }

std::string outcome(long result) {
  if (result >= 0) return "0";
  const char* name = ::strerrorname_np(errno);
  return name ? name : std::to_string(errno);
}

long number(const Words& words, std::size_t n, long otherwise) { return n < words.size() ? std::stol(words[n], nullptr, 0) : otherwise; }

std::string text_of(const char* path) {
  std::string text;
  int fd = ::open(path, O_RDONLY | O_CLOEXEC);
  char bytes[4096];
  for (ssize_t got; fd >= 0 && (got = ::read(fd, bytes, sizeof bytes)) > 0;) text.append(bytes, static_cast<std::size_t>(got));
  if (fd >= 0) ::close(fd);
  return text;
}

}  // namespace probe

// Several subjects in one run are joined by a comma: "probe status,securebits,fds".
int main(int argc, char** argv) {
  using namespace probe;
  std::string names = argc > 1 ? argv[1] : "";
  Words words(argv + (argc > 1 ? 2 : 1), argv + argc);
  int status = 64;
  for (std::size_t at = 0; at < names.size();) {
    std::size_t end = names.find(',', at);
    if (end == std::string::npos) end = names.size();
    std::string name = names.substr(at, end - at);
    at = end + 1;
    bool known = false;
    for (const Command& command : all_commands()) {
      if (name != command.name) continue;
      known = true;
      try {
        status = command.run(words);
      } catch (const std::exception& error) {
        ::dprintf(2, "probe %s: %s\n", name.c_str(), error.what());
        return 64;
      }
    }
    if (!known) {
      ::dprintf(2, "probe: no subject '%s'\n", name.c_str());
      return 64;
    }
  }
  if (names.empty())
    for (const Command& command : all_commands()) ::printf("%-20s %s\n", command.name, command.help);
  return status;
}
