// The program `attack`: one attempt a word, for tests/security. It prints "key=value" lines; a value is what was seen, or what an
// attempt gave: 0, or the name of an errno. Everything here is safe to run on the host as well, where it is the control.
#pragma once

#include <functional>
#include <initializer_list>
#include <string>
#include <vector>

namespace attack {

using Words = std::vector<std::string>;

struct Attack {
  const char* name;
  void (*run)(const Words&);
  const char* what;
};

std::vector<Attack>& all();

struct Attacks {
  Attacks(std::initializer_list<Attack> list) { all().insert(all().end(), list); }
};

void say(const std::string& key, const std::string& value);
void say(const std::string& key, long value);
/// "0" for a result that is not -1, else the name of errno.
std::string outcome(long result);
/// What a child that runs this gave: its outcome, or "signal N". So one attempt cannot spoil the next.
std::string in_child(const std::function<long()>& attempt);
/// Opens the file and reads a byte: "0", "empty", or the errno.
std::string read_outcome(const std::string& path);
long number(const Words& words, std::size_t n, long otherwise);

}  // namespace attack
