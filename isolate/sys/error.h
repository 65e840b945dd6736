// Errors of the kernel as exceptions that say what was attempted, on what, and why it failed.
#pragma once

#include <fmt/format.h>

#include <cerrno>
#include <stdexcept>
#include <string>
#include <string_view>
#include <type_traits>

namespace isolate::sys {

/// A system call failed. `what()` is "open directory /x: No such file or directory".
class SystemError : public std::runtime_error {
 public:
  SystemError(int code, std::string attempted, std::string path);

  int code() const noexcept { return code_; }                       ///< errno of the failed call
  const std::string& attempted() const noexcept { return attempted_; }  ///< "open directory /x"
  const std::string& path() const noexcept { return path_; }        ///< the subject, if it was named; else empty

 private:
  int code_;
  std::string attempted_;
  std::string path_;
};

/// The text of an errno, without locale and without allocation in libc.
std::string error_text(int code);

/// Such a text as Go's library says it: "No such file" as "no such file". Clients look for runc's words.
std::string in_lower_case(std::string text);

[[noreturn]] void throw_system_error(int code, std::string attempted, std::string path);

namespace detail {
template <typename T>
std::string subject(const T& value) {
  if constexpr (std::is_convertible_v<const T&, std::string_view>) return std::string(std::string_view(value));
  return {};
}
inline std::string first_subject() { return {}; }
template <typename First, typename... Rest>
std::string first_subject(const First& first, const Rest&...) {
  return subject(first);
}
}  // namespace detail

/// Returns `result` unless it is -1; then throws SystemError with errno and the formatted sentence.
/// The first argument of the sentence, when it is text, is remembered as the path of the error.
template <typename Result, typename... Args>
Result check(Result result, fmt::format_string<const Args&...> attempted, const Args&... args) {
  if (result == static_cast<Result>(-1)) {
    int code = errno;
    throw_system_error(code, fmt::format(attempted, args...), detail::first_subject(args...));
  }
  return result;
}

/// Throws as check() does, for a fault that has an errno of its own.
template <typename... Args>
[[noreturn]] void fail(int code, fmt::format_string<const Args&...> attempted, const Args&... args) {
  throw_system_error(code, fmt::format(attempted, args...), detail::first_subject(args...));
}

}  // namespace isolate::sys
