// snapshot export, snapshot import: from store to store.
#include <fcntl.h>
#include <fmt/format.h>
#include <stdio.h>
#include <unistd.h>

#include "isolate/sys/error.h"
#include "isolate/sys/file.h"
#include "runner/cli/snapshot.h"
#include "runner/snapshot/keys.h"
#include "runner/snapshot/transfer.h"

namespace runner::cli {

using namespace isolate::sys;

namespace {

std::optional<std::string> key_in(const std::string& path) {
  if (path.empty()) return std::nullopt;
  return snapshot::read_key(path);
}

// Never a terminal: it would be made to do what the bytes say.
bool is_standard(const std::string& path, int fd, const char* verb, const char* flag) {
  if (!path.empty() && path != "-") return false;
  if (::isatty(fd))
    throw UsageError(
        fmt::format("{}: a tar stream is not for a terminal: redirect it, or give a file with {}", verb, flag));
  return true;
}

}  // namespace

int snapshot_export(Context& context) {
  std::string to, key;
  Options options("snapshot export",
                  "Write a snapshot as a tar stream, with all layers that it needs. It holds the memory of processes, "
                  "and so their secrets.");
  options.value("-o,--output", to, "a file, which is made with mode 0600; without it, or with -, standard output");
  options.value(
      "--key", key,
      "a file of 32 random bytes to sign it with, for `import --key` of another host; else the store's own key signs");
  std::string name = one_argument(context.parse(options), "snapshot export", "NAME");
  bool standard = is_standard(to, STDOUT_FILENO, "snapshot export", "-o");
  auto signing = key_in(key);
  snapshot::Store store(context.directories());
  snapshot::Snapshot found = store.get(name);
  // Aside, so that a file of that name is never half a snapshot.
  std::string aside = fmt::format("{}.new.{}", to, ::getpid());
  Fd file = standard ? Fd() : open_file(aside, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, 0600);
  try {
    snapshot::export_snapshot(store, found, signing, [&](std::string_view bytes) {
      while (!bytes.empty()) {
        ssize_t done = ::write(standard ? STDOUT_FILENO : file.get(), bytes.data(), bytes.size());
        if (done == -1 && errno == EINTR) continue;
        bytes.remove_prefix(static_cast<std::size_t>(check(done, "write {}", standard ? "standard output" : aside)));
      }
    });
    if (!standard) {
      check(::fsync(file.get()), "sync {}", aside);
      check(::rename(aside.c_str(), to.c_str()), "rename {} to {}", aside, to);
    }
  } catch (...) {
    if (!standard) ::unlink(aside.c_str());
    throw;
  }
  return 0;
}

int snapshot_import(Context& context) {
  std::string from, key;
  snapshot::ImportOptions import;
  Options options("snapshot import",
                  "Take a snapshot from a stream of `snapshot export`. Its processes will be what the stream says, so "
                  "it must be signed with a "
                  "key that is known here; it is signed with this store's key then.");
  options.value("-i,--input", from, "a file; without it, or with -, standard input");
  options.value("--name", import.name, "what it is called here, instead of its name in the stream");
  options.value("--key", key, "the file of the key that it was exported with");
  options.flag("--trust", import.trust, "take it though nobody knows who signed it");
  if (auto rest = context.parse(options); !rest.empty())
    throw UsageError(fmt::format("snapshot import: takes no arguments, not '{}' (-i names a file)", shown(rest[0])));
  Fd file;
  if (!is_standard(from, STDIN_FILENO, "snapshot import", "-i")) file = open_file(from, O_RDONLY);
  int fd = file ? file.get() : STDIN_FILENO;
  import.key = key_in(key);
  if (!import.name.empty()) check_id(import.name);
  snapshot::Store store(context.directories());
  snapshot::Snapshot made = snapshot::import_snapshot(
      store,
      [&](char* to, std::size_t size) {
        ssize_t got;
        do got = ::read(fd, to, size);
        while (got == -1 && errno == EINTR);
        return static_cast<std::size_t>(check(got, "read {}", file ? from : "standard input"));
      },
      import);
  fmt::print("{}\n", made.name());
  return 0;
}

}  // namespace runner::cli
