// runner-model: the only program that knows the key of a model's provider, and the only one that speaks to it. It passes bytes on and
// understands none of them; what it could be made to do by those bytes, it has given up before the first one comes.
#include <curl/curl.h>
#include <fmt/format.h>
#include <signal.h>

#include <charconv>
#include <cstdlib>
#include <cstring>
#include <stdexcept>

#include "isolate/sys/error.h"
#include "isolate/sys/fd.h"
#include "isolate/sys/file.h"
#include "runner/agent/model/caller.h"
#include "runner/agent/model/endpoint.h"
#include "runner/agent/model/lock.h"

namespace {

using namespace runner::agent::model;
namespace sys = isolate::sys;

constexpr int kFailed = 1, kUsage = 2;
constexpr std::size_t kLongestKey = 64 << 10;
constexpr const char* kUsageText =
    "runner-model --base-url URL --header NAME[:PREFIX] --socket FD --key-fd FD [--uid N] [--gid N] [--empty-root DIR] [--allow-http]";

struct Usage : std::runtime_error {
  using std::runtime_error::runtime_error;
};

struct Options {
  std::string base_url, header, prefix;
  int socket = -1, key = -1;
  bool allow_http = false;
  Lock lock;
};

unsigned number(const std::string& flag, std::string_view text) {
  unsigned value = 0;
  auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size() || value > 0x7FFFFFFF)
    throw Usage(fmt::format("{} must be a number, not '{}'", flag, text));
  return value;
}

Options read_options(int count, char** words) {
  Options options;
  for (int i = 1; i < count; ++i) {
    std::string flag = words[i];
    if (flag == "--allow-http") {
      options.allow_http = true;
      continue;
    }
    if (i + 1 == count) throw Usage(fmt::format("{} is unknown or needs a value", flag));
    std::string value = words[++i];
    if (flag == "--base-url") options.base_url = value;
    else if (flag == "--header") {
      std::size_t colon = value.find(':');
      options.header = value.substr(0, colon);
      if (colon != std::string::npos) options.prefix = value.substr(colon + 1);
    } else if (flag == "--socket") options.socket = static_cast<int>(number(flag, value));
    else if (flag == "--key-fd") options.key = static_cast<int>(number(flag, value));
    else if (flag == "--uid") options.lock.uid = number(flag, value);
    else if (flag == "--gid") options.lock.gid = number(flag, value);
    else if (flag == "--empty-root") options.lock.empty_root = value;
    else throw Usage(fmt::format("{} is unknown", flag));
  }
  if (options.base_url.empty() || options.header.empty()) throw Usage("--base-url and --header are needed");
  if (options.socket < 3 || options.key < 0) throw Usage("--socket, of at least 3, and --key-fd are needed");
  return options;
}

std::string read_key(int number) {
  sys::Fd from(number);
  std::string key;
  char bytes[4096];
  for (;;) {
    ssize_t got = ::read(number, bytes, sizeof bytes);
    if (got == -1 && errno == EINTR) continue;
    if (sys::check(got, "read the key") == 0) break;
    key.append(bytes, static_cast<std::size_t>(got));
    if (key.size() > kLongestKey) throw std::runtime_error("read the key: it is longer than 64 KiB");
  }
  ::explicit_bzero(bytes, sizeof bytes);
  while (!key.empty() && (key.back() == '\n' || key.back() == '\r')) key.pop_back();  // of a file that an editor wrote
  for (char c : key)
    if (static_cast<unsigned char>(c) < 0x20 || c == 0x7F) throw std::runtime_error("read the key: it has a control character in it");
  return key;
}

std::string read_certificates() {
  if (const char* chosen = std::getenv("SSL_CERT_FILE")) return sys::read_file(chosen);
  for (const char* path : {"/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem"})
    if (auto found = sys::find_file(path)) return *found;
  throw std::runtime_error("find the certificates to trust: there is no /etc/ssl/certs/ca-certificates.crt; name them in SSL_CERT_FILE");
}

int run(const Options& options) {
  hide();
  std::string key = read_key(options.key);
  close_others(options.socket);
  if (::curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK) throw std::runtime_error("begin to use libcurl");

  Caller::Setup setup{.endpoint = find_endpoint(options.base_url, options.allow_http), .auth_name = options.header, .socket = options.socket};
  if (!key.empty()) setup.auth_value = options.prefix + key;
  if (setup.endpoint.encrypted) setup.ca = read_certificates();
  ::explicit_bzero(key.data(), key.size());
  Caller caller(std::move(setup));

  lock_in(options.lock);
  caller.serve();
  return 0;
}

}  // namespace

int main(int count, char** words) {
  ::signal(SIGPIPE, SIG_IGN);
  try {
    return run(read_options(count, words));
  } catch (const Usage& error) {
    fmt::print(stderr, "runner-model: {}\nusage: {}\n", error.what(), kUsageText);
    return kUsage;
  } catch (const std::exception& error) {
    fmt::print(stderr, "runner-model: {}\n", error.what());
    return kFailed;
  }
}
