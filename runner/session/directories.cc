#include "runner/session/directories.h"

#include <fcntl.h>
#include <sys/random.h>
#include <unistd.h>

#include <cstdlib>
#include <string_view>

#include "isolate/sys/error.h"
#include "isolate/sys/file.h"

namespace runner::session {

using namespace isolate::sys;

namespace {

constexpr std::uint32_t kRanges = (kFirstKeeperId - IdRangeLease::kFirstId) / IdRangeLease::kSize;

std::string from_environment(const char* name, const std::string& otherwise) {
  const char* value = std::getenv(name);
  return value && *value == '/' ? value : otherwise;
}

// Root inside the user namespace of an engine that an ordinary user runs: /run is not its own. As runc tells it: by the environment, and the id map.
bool is_root_of_a_user() {
  const char *runtime = ::getenv("XDG_RUNTIME_DIR"), *user = ::getenv("USER");
  if (!runtime || (user && std::string_view(user) == "root")) return false;
  return isolate::sys::find_file("/proc/self/uid_map").value_or("").find("4294967295") == std::string::npos;
}

}  // namespace

bool is_user() { return ::geteuid() != 0 || is_root_of_a_user(); }

Directories find_directories(const std::string& run_root) {
  Directories found;
  if (!is_user()) {
    found = {"/run/runner", "/var/lib/runner", {}};
  } else {
    std::string home = from_environment("HOME", fmt::format("/tmp/runner-{}", ::geteuid()));
    found.run = from_environment("XDG_RUNTIME_DIR", fmt::format("/tmp/runner-{}", ::geteuid())) + "/runner";
    found.data = from_environment("XDG_DATA_HOME", home + "/.local/share") + "/runner";
  }
  found.ids = found.run;
  if (!run_root.empty()) found.run = run_root;
  found.data = from_environment("RUNNER_DATA", found.data);
  return found;
}

std::string why_bad_id(const std::string& id) {
  if (id.empty()) return "an id may not be empty";
  if (id.size() > 128) return fmt::format("an id has at most 128 characters, not {}", id.size());
  if (id[0] == '.' || id[0] == '-') return fmt::format("an id may not begin with '{}'", id[0]);
  for (char c : id)
    if (!((c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || c == '_' || c == '.' || c == '+' || c == '-'))
      return fmt::format("invalid character `{}` in the ID: it has only letters, digits, '_', '.', '+' and '-'",
                         c > ' ' && c <= '~' ? std::string(1, c) : fmt::format("\\x{:02x}", static_cast<unsigned char>(c)));
  return {};
}

namespace {

// False when another session has it.
bool lock_range(int file, std::uint32_t n, const std::string& path) {
  struct flock byte {};
  byte.l_type = F_WRLCK;
  byte.l_whence = SEEK_SET;
  byte.l_start = n;
  byte.l_len = 1;
  if (::fcntl(file, F_OFD_SETLK, &byte) == 0) return true;
  if (errno != EAGAIN && errno != EACCES) fail(errno, "lock {}", path);
  return false;
}

}  // namespace

IdRangeLease IdRangeLease::open(const Directories& directories) {
  make_dirs(directories.ids, 0700);
  IdRangeLease lease;
  lease.lock_ = open_file(directories.ids + "/.ids", O_RDWR | O_CREAT | O_NOFOLLOW, 0600);
  return lease;
}

IdRangeLease IdRangeLease::take(const Directories& directories) {
  IdRangeLease lease = open(directories);
  // From anywhere on: the range of a suspended session, which nobody holds, is then mostly free when it wakes.
  std::uint32_t start = 0;
  check(::getrandom(&start, sizeof start, 0), "choose a range of user ids");
  for (std::uint32_t i = 0; i < kRanges; ++i) {
    std::uint32_t n = (start + i) % kRanges;
    if (!lock_range(lease.lock_.get(), n, directories.ids + "/.ids")) continue;
    lease.first_ = kFirstId + n * kSize;
    return lease;
  }
  fail(EAGAIN, "find a free range of user ids (all {} are in use)", kRanges);
}

std::optional<IdRangeLease> IdRangeLease::take_at(const Directories& directories, std::uint32_t first) {
  IdRangeLease lease = open(directories);
  std::uint32_t n = (first - kFirstId) / kSize;
  if (first < kFirstId || n >= kRanges || !lock_range(lease.lock_.get(), n, directories.ids + "/.ids")) return std::nullopt;
  lease.first_ = first;
  return lease;
}

}  // namespace runner::session
