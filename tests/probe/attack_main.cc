// attack WORD[,WORD...] [ARGUMENT...]: each word is an attempt or a family of them.
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <sstream>

#include "tests/probe/attack.h"

namespace attack {

std::vector<Attack>& all() {
  static std::vector<Attack> list;
  return list;
}

void say(const std::string& key, const std::string& value) {
  std::string line = key + "=" + value + "\n";
  (void)!::write(1, line.data(), line.size());
}

void say(const std::string& key, long value) { say(key, std::to_string(value)); }

std::string outcome(long result) {
  if (result != -1) return "0";
  const char* name = ::strerrorname_np(errno);
  return name ? name : std::to_string(errno);
}

std::string in_child(const std::function<long()>& attempt) {
  int ends[2];
  if (::pipe(ends)) return "no pipe";
  pid_t pid = ::fork();
  if (pid == 0) {
    std::string text = outcome(attempt());
    (void)!::write(ends[1], text.data(), text.size());
    ::_exit(0);
  }
  ::close(ends[1]);
  char text[64] = {};
  ssize_t got = ::read(ends[0], text, sizeof text - 1);
  ::close(ends[0]);
  int status = 0;
  ::waitpid(pid, &status, 0);
  if (got > 0) return text;
  return WIFSIGNALED(status) ? "signal " + std::to_string(WTERMSIG(status)) : "nothing";
}

std::string read_outcome(const std::string& path) {
  int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (fd < 0) return outcome(-1);
  char byte;
  ssize_t got = ::read(fd, &byte, 1);
  std::string result = got == 0 ? "empty" : outcome(got);
  ::close(fd);
  return result;
}

long number(const Words& words, std::size_t n, long otherwise) {
  return n < words.size() ? std::stol(words[n], nullptr, 0) : otherwise;
}

}  // namespace attack

int main(int argc, char** argv) {
  using namespace attack;
  ::setvbuf(stdout, nullptr, _IONBF, 0);
  if (argc < 2) {
    for (const Attack& a : all()) ::printf("%-20s %s\n", a.name, a.what);
    return 2;
  }
  Words rest(argv + 2, argv + argc);
  std::istringstream words(argv[1]);
  for (std::string word; std::getline(words, word, ',');) {
    bool known = false;
    for (const Attack& a : all())
      if (word == a.name) a.run(rest), known = true;
    if (!known) return ::fprintf(stderr, "attack: no attempt '%s'\n", word.c_str()), 2;
  }
  return 0;
}
