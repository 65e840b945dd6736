#include "isolate/sys/error.h"

#include <cstring>

namespace isolate::sys {

// strerrordesc_np does not translate: libc must not open message catalogues inside a sandbox's root.
std::string error_text(int code) {
  const char* text = ::strerrordesc_np(code);
  return text ? std::string(text) : fmt::format("error {}", code);
}

std::string in_lower_case(std::string text) {
  if (!text.empty() && text[0] >= 'A' && text[0] <= 'Z') text[0] += 'a' - 'A';
  return text;
}

SystemError::SystemError(int code, std::string attempted, std::string path)
    : std::runtime_error(attempted + ": " + error_text(code)),
      code_(code),
      attempted_(std::move(attempted)),
      path_(std::move(path)) {}

void throw_system_error(int code, std::string attempted, std::string path) {
  throw SystemError(code, std::move(attempted), std::move(path));
}

}  // namespace isolate::sys
