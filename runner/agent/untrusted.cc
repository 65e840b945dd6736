#include "runner/agent/untrusted.h"

#include <fmt/format.h>

#include <algorithm>

#include "runner/agent/text.h"

namespace runner::agent {

namespace {

// The four digits after \u; empty when there are none.
int code_unit(std::string_view json, std::size_t at) {
  if (at + 6 > json.size() || json[at] != '\\' || json[at + 1] != 'u') return -1;
  int code = 0;
  for (char digit : json.substr(at + 2, 4)) {
    int value = digit >= '0' && digit <= '9'   ? digit - '0'
                : digit >= 'a' && digit <= 'f' ? digit - 'a' + 10
                : digit >= 'A' && digit <= 'F' ? digit - 'A' + 10
                                               : -1;
    if (value < 0) return -1;
    code = code * 16 + value;
  }
  return code;
}

bool is_high(int code) { return code >= 0xd800 && code < 0xdc00; }
bool is_low(int code) { return code >= 0xdc00 && code < 0xe000; }

}  // namespace

std::string why_not_parse(std::string_view json) {
  int depth = 0;
  std::size_t values = 1;
  bool in_text = false;
  for (std::size_t i = 0; i < json.size(); ++i) {
    char c = json[i];
    if (in_text) {
      if (c == '\\')
        ++i;
      else if (c == '"')
        in_text = false;
    } else if (c == '"') {
      in_text = true;
    } else if (c == '[' || c == '{') {
      ++values;
      if (++depth > kDeepestJson) return fmt::format("lists or objects more than {} deep within each other", kDeepestJson);
    } else if (c == ']' || c == '}') {
      --depth;
    } else if (c == ',') {
      ++values;
    }
    if (values > kMostJsonValues) return fmt::format("more than {} values", kMostJsonValues);
  }
  return {};
}

void mend_surrogates(std::string& json) {
  for (std::size_t at = json.find('\\'); at != std::string::npos && at + 1 < json.size(); at = json.find('\\', at)) {
    int code = code_unit(json, at);
    if (is_high(code) && is_low(code_unit(json, at + 6))) {
      at += 12;
    } else if (is_high(code) || is_low(code)) {
      json.replace(at, 6, "\\ufffd");
      at += 6;
    } else {
      at += 2;  // also over an escaped backslash, whose 'u' is a letter
    }
  }
}

std::string cleaned(std::string_view bytes, std::size_t most) {
  std::string text(bytes.substr(0, most));
  for (char& c : text)
    if (c < 0x20 || c > 0x7e) c = '?';
  return bytes.size() > most ? text + "..." : text;
}

void add_cut(std::string& to, std::string_view part, std::size_t& left) {
  std::size_t fits = cut(part, left).size();
  to += part.substr(0, fits);
  left -= fits;
  if (fits == part.size()) return;
  left = 0;
  to += fmt::format("\n[cut here: {} more bytes are left out, a result may have {}]", part.size() - fits, kLongestText);
}

}  // namespace runner::agent
