#include "runner/agent/text.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "runner/config/utf8.h"

namespace runner::agent {

namespace {

std::string why_refused(char32_t c, bool before_newline) {
  if (c == 0) return "a NUL byte";
  if (c == '\t' || c == '\n' || (c == '\r' && before_newline)) return {};
  // An instruction that shows other words than it holds would pass its review.
  bool reverses = (c >= 0x202a && c <= 0x202e) || (c >= 0x2066 && c <= 0x2069);
  if (c < 0x20 || (c >= 0x7f && c <= 0x9f) || reverses)
    return fmt::format("the invisible control character U+{:04X}", static_cast<unsigned>(c));
  return {};
}

}  // namespace

bool check_text(const std::string& source, std::string_view text, Diagnostics& wrong) {
  if (text.size() > kLargestFile) return wrong.add({source}, "larger than {} bytes", kLargestFile), false;
  int line = 1, column = 1;
  while (!text.empty()) {
    Character c = next_character(text);
    std::string why = c.bytes == 0 ? "this byte is not UTF-8" : why_refused(c.code, text.starts_with("\r\n"));
    if (!why.empty()) return wrong.add({source, line, column}, "{}", why), false;
    ++column;
    if (c.code == '\n') ++line, column = 1;
    text.remove_prefix(c.bytes);
  }
  return true;
}

std::optional<std::string> read_text_file(const std::string& path, Diagnostics& wrong) {
  auto fail = [&](const char* what) {
    wrong.add({path}, "cannot be {}: {}", what, std::strerror(errno));
    return std::nullopt;
  };
  // O_NONBLOCK: a pipe of this name would keep us waiting for its writer.
  int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
  if (fd == -1) return fail("opened");

  struct stat status;
  bool known = ::fstat(fd, &status) == 0;
  std::string text(kLargestFile + 1, '\0');  // one byte more shows that there is more
  std::size_t length = 0;
  ssize_t count = known && S_ISREG(status.st_mode) ? 1 : known ? 0 : -1;
  while (count > 0 || (count == -1 && errno == EINTR)) {
    count = ::read(fd, text.data() + length, text.size() - length);
    if (count > 0) length += static_cast<std::size_t>(count);
  }
  int error = errno;
  ::close(fd);
  errno = error;
  if (count == -1) return fail("read");
  if (!S_ISREG(status.st_mode)) return wrong.add({path}, "is no regular file"), std::nullopt;
  if (length > kLargestFile) return wrong.add({path}, "larger than {} bytes", kLargestFile), std::nullopt;
  text.resize(length);
  return text;
}

bool is_name(std::string_view text) {
  constexpr std::size_t kLongest = 64;
  auto fits = [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' || c == '-';
  };
  return !text.empty() && text.size() <= kLongest && std::all_of(text.begin(), text.end(), fits);
}

std::string_view cut(std::string_view text, std::size_t most) {
  if (text.size() <= most) return text;
  while (most > 0 && (static_cast<unsigned char>(text[most]) & 0xc0) == 0x80) --most;
  return text.substr(0, most);
}

std::string as_utf8(std::string_view text) {
  std::string result;
  while (!text.empty()) {
    Character c = next_character(text);
    bool good = c.bytes != 0 && c.code != 0;
    if (good)
      result += text.substr(0, c.bytes);
    else
      result += "\xef\xbf\xbd";
    text.remove_prefix(good ? c.bytes : 1);
  }
  return result;
}

}  // namespace runner::agent
