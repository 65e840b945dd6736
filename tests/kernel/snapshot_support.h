// Stores of snapshots that no session was frozen for.
#pragma once

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/xattr.h>

#include <algorithm>
#include <string>

#include "isolate/sys/file.h"
#include "runner/snapshot/layers.h"
#include "runner/snapshot/store.h"
#include "tests/kernel/live.h"

namespace tests {

inline const char* kKey = "/snapshots.key";

struct TestStore {
  Folder folder;
  runner::session::Directories directories{folder / "run", folder / "data", folder / "run"};
  runner::snapshot::Store store{directories};

  std::string path(const std::string& name = "") const { return store.path() + (name.empty() ? "" : "/" + name); }
  std::string key() const { return directories.data + kKey; }

  /// Names in the store that do not belong to a snapshot, without its own files.
  std::string leftovers() const {
    std::string found;
    for (const std::string& name : isolate::sys::list_dir(store.path()))
      if (name[0] == '.' && name != ".lock" && name != ".format" && name != ".counter") found += name + " ";
    return found;
  }
  Ran cli(Args arguments, How how = {}) const {
    how.env["RUNNER_DATA"] = directories.data;
    arguments.insert(arguments.begin(), "snapshot");
    return runner(arguments, how);
  }
};

inline runner::snapshot::Manifest sample_manifest() {
  runner::snapshot::Manifest m = runner::snapshot::manifest_of_this_host();
  m.session_id = "s1";
  m.policy_name = "default";
  m.policy_hash = std::string(64, 'a');
  m.config = {"--name", "s1", "--", "sh"};
  m.session = R"({"terminal":true})";
  m.first_id = 0x70000000, m.id_count = 65536;
  m.layers = {"0"};
  return m;
}

/// A few files of each kind, `pages` bytes of memory among them.
inline void fill(runner::snapshot::Draft& draft, std::size_t pages = 5000) {
  auto write = [&](const std::string& name, const std::string& text) {
    isolate::sys::replace_file(draft.path() + "/" + name, text, 0644);
  };
  write("criu/core-1.img", "core of process 1");
  write("criu/inventory.img", std::string(300, 'i'));
  write("criu/empty.img", "");
  write("criu/pages-1.img", std::string(pages, 'p'));
  write("files/shm.tar", "not really a tar");
  std::string layer = draft.make_layer("0");
  write("layers/0/file", "content");
  ::mkdir((layer + "/dir").c_str(), 0750);
  write("layers/0/dir/with\nnewline", "x");
  if (::symlink("/etc/passwd", (layer + "/link").c_str()) || ::mknod((layer + "/gone").c_str(), S_IFCHR, 0) ||
      ::link((layer + "/file").c_str(), (layer + "/dir/hard").c_str()) || ::mkfifo((layer + "/pipe").c_str(), 0640) ||
      ::setxattr((layer + "/dir").c_str(), "trusted.overlay.opaque", "y", 1, 0) ||
      ::setxattr((layer + "/file").c_str(), "user.note", "n", 1, 0) || ::chown((layer + "/file").c_str(), 1000, 1000))
    throw std::runtime_error("the sample layer cannot be made");
}

inline runner::snapshot::Snapshot publish(runner::snapshot::Store& store, const std::string& name,
                                          runner::snapshot::Manifest manifest = sample_manifest()) {
  runner::snapshot::Draft draft = store.draft();
  fill(draft);
  return draft.publish(name, std::move(manifest));
}

/// What it throws; empty when nothing.
template <typename Act>
std::string thrown(Act act) {
  try {
    act();
  } catch (const std::exception& error) {
    return error.what();
  }
  return {};
}

inline bool has(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

}  // namespace tests
