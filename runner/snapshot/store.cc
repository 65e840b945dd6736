#include "runner/snapshot/store.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <set>
#include <sstream>

#include "isolate/sys/error.h"
#include "isolate/sys/file.h"
#include "runner/snapshot/place.h"

namespace runner::snapshot {

using namespace isolate::sys;

namespace {

constexpr const char *kNew = ".new-", *kOld = ".old-";
constexpr int kVersion = 1;
constexpr int kInUse = 5'000;  // milliseconds that a restore may need between finding a snapshot and naming it

bool is_aside(const std::string& name) { return name.starts_with(kNew) || name.starts_with(kOld); }

void check_version(const std::string& store) {
  auto text = find_file(store + "/.format", 100);
  if (!text) return;
  int version = 0;
  auto [end, error] = std::from_chars(text->data(), text->data() + text->size(), version);
  if (error != std::errc() || version < 1)
    throw std::runtime_error(
        fmt::format("{}/.format was damaged: it must hold the version of the store, {}", store, kVersion));
  if (version > kVersion)
    throw std::runtime_error(
        fmt::format("the snapshots in {} are of version {}, and this runner knows up to {}: use a newer runner", store,
                    version, kVersion));
}

// Empty when it verifies with one of the keys; else why not.
std::string why_unsigned(const std::optional<Signed>& parts, const std::vector<std::string>& keys) {
  if (!parts) return "it was cut or changed: it is not of the form that a manifest has";
  if (keys.empty()) return "the store has no key any more: without its snapshots.key nothing in it can be trusted";
  for (const std::string& key : keys)
    if (verifies(*parts, key)) return {};
  return "it was changed, or it was signed with another key than this store's";
}

// Those that a session was restored from.
std::set<std::string> snapshots_of(const session::Directories& directories, const std::string& session) {
  std::string data = directories.session_data(session);
  std::istringstream from(find_file(data + "/from").value_or("") + "\n" + find_file(data + "/suspended").value_or(""));
  std::set<std::string> names;
  for (std::string line; std::getline(from, line);)
    if (!line.empty()) names.insert(line);
  return names;
}

// Those whose layers a manifest names that has `hint` in it. It need not verify: what a damaged one names can only be too much.
std::set<std::string> snapshots_named_by(const std::string& manifest, const std::string& hint) {
  auto text = find_file(manifest, kLargestManifest);
  auto parts = text && text->find(hint) != std::string::npos ? split(*text) : std::nullopt;
  Diagnostics unheard;
  auto read = parts ? read_body(parts->body, manifest, unheard) : std::nullopt;
  std::set<std::string> names;
  if (read)
    for (const std::string& layer : read->layers)
      if (std::size_t slash = layer.find('/'); slash != std::string::npos) names.insert(layer.substr(0, slash));
  return names;
}

}  // namespace

BadSnapshot::BadSnapshot(const std::string& snapshot, std::string file, std::string why)
    : std::runtime_error(fmt::format("snapshot {} cannot be used: {}: {}", snapshot, file, why)),
      file_(std::move(file)),
      why_(std::move(why)) {}

Store::Store(const session::Directories& directories) : directories_(directories) { check_version(path()); }

Draft Store::draft() {
  std::string store = path();
  make_dirs(store, 0700);
  check(::chmod(store.c_str(), 0700), "close {} to others", store);
  if (::access((store + "/.format").c_str(), F_OK) == -1)
    replace_file(store + "/.format", fmt::format("{}\n", kVersion), 0600, true);
  sweep();
  for (int tries = 0; tries < 100; ++tries) {
    std::string draft = store + "/" + kNew + "XXXXXX";
    if (!::mkdtemp(draft.data())) fail(errno, "make a directory {}", draft);
    auto lock = lock_directory(draft, LOCK_EX | LOCK_NB);
    if (!lock) continue;  // a sweep took it, as it had no lock yet
    Draft made(directories_, draft, std::move(*lock));
    for (const char* folder : kFolders)
      check(::mkdir((draft + "/" + folder).c_str(), 0700), "make directory {}/{}", draft, folder);
    return made;
  }
  fail(EAGAIN, "make a new snapshot in {}", store);
}

void Store::sweep() {
  for (const std::string& name : list_dir(path())) {
    if (!is_aside(name)) continue;
    if (auto lock = lock_directory(path() + "/" + name, LOCK_EX | LOCK_NB)) remove_tree(path() + "/" + name);
  }
}

std::vector<std::string> Store::names() const {
  std::vector<std::string> names;
  for (const std::string& name : list_dir(path()))
    if (name[0] != '.' && find_dir(path() + "/" + name)) names.push_back(name);
  return names;
}

std::optional<Snapshot> Store::find(const std::string& name) const {
  std::string where = path() + "/" + name;
  auto dir = session::why_bad_id(name).empty() ? lock_directory(where, LOCK_SH) : std::nullopt;
  if (!dir) return std::nullopt;
  std::string why;
  // A rotation may change the key and then the manifest between our two looks.
  for (int tries = 0; tries < 3; ++tries) {
    std::vector<std::string> keys = keys_of(directories_).accepted();
    auto text = find_file_at(dir->get(), kManifest, kLargestManifest);
    if (!text) throw BadSnapshot(name, kManifest, "it is missing");
    auto parts = split(*text);
    if (why = why_unsigned(parts, keys); !why.empty()) continue;
    Diagnostics wrong;
    auto manifest = read_body(parts->body, kManifest, wrong);
    if (!manifest) throw BadSnapshot(name, kManifest, wrong.first());
    if (manifest->name != name) throw BadSnapshot(name, kManifest, "it is that of snapshot " + manifest->name);
    return Snapshot(path(), where, std::move(*dir), std::move(*manifest));
  }
  throw BadSnapshot(name, kManifest, why);
}

Snapshot Store::get(const std::string& name) const {
  auto found = find(name);
  if (!found) throw std::runtime_error(fmt::format("there is no snapshot {} (`runner snapshot ls` lists them)", name));
  return std::move(*found);
}

std::vector<Listed> Store::list() const {
  std::vector<Listed> list;
  for (const std::string& name : names()) {
    try {
      if (auto found = find(name)) list.push_back({name, found->manifest(), {}});
    } catch (const BadSnapshot& error) {
      list.push_back({name, std::nullopt, error.file() + ": " + error.why()});
    } catch (const SystemError& error) {
      list.push_back({name, std::nullopt, error.what()});
    }
  }
  return list;
}

Store::Users Store::users() const {
  Users users;
  for (const std::string& id : list_dir(directories_.data + "/sessions"))
    for (const std::string& name : snapshots_of(directories_, id)) users[name].push_back("session " + id);
  for (const std::string& other : names())
    for (const std::string& name : snapshots_named_by(path() + "/" + other + "/" + kManifest, "/"))
      users[name].push_back("snapshot " + other);
  return users;
}

// The same of one, faster: a manifest takes longer to parse than to search.
std::vector<std::string> Store::users_of(const std::string& name) const {
  std::vector<std::string> users;
  for (const std::string& id : list_dir(directories_.data + "/sessions"))
    if (snapshots_of(directories_, id).contains(name)) users.push_back("session " + id);
  for (const std::string& other : names())
    if (snapshots_named_by(path() + "/" + other + "/" + kManifest, "\"" + name + "/").contains(name))
      users.push_back("snapshot " + other);
  return users;
}

void Store::remove(const std::string& name) {
  std::string where = path() + "/" + name, aside = fmt::format("{}/{}{}-{}", path(), kOld, name, ::getpid());
  if (!session::why_bad_id(name).empty() || !find_dir(where))
    throw std::runtime_error(fmt::format("there is no snapshot {} (`runner snapshot ls` lists them)", name));
  auto refuse_if_used = [&] {
    if (auto users = users_of(name); !users.empty())
      throw std::runtime_error(fmt::format("snapshot {} is in use by {}: remove {} first", name, fmt::join(users, ", "),
                                           users.size() == 1 ? "it" : "them"));
  };
  Fd whole = lock_store(path(), LOCK_EX);
  std::optional<Fd> lock;
  for (int waited = 0; !(lock = lock_directory(where, LOCK_EX | LOCK_NB)); ++waited) {
    if (!find_dir(where)) return;  // another one has removed it
    if (waited == kInUse) refuse_if_used();  // a session on standby has both the lock and a name
    if (waited == kInUse) fail(EBUSY, "remove snapshot {} (a command that restores or copies it holds it)", name);
    timespec moment{0, 1'000'000};
    ::nanosleep(&moment, nullptr);
  }
  refuse_if_used();
  check(::rename(where.c_str(), aside.c_str()), "remove {}", where);
  whole.close();
  sync_directory(path());
  remove_tree(aside);
}

void Store::sign_all_again(const std::vector<std::string>& keys, Rotated& rotated) const {
  std::string aside = path() + "/.manifest.new";
  for (const std::string& name : names()) {
    std::string where = path() + "/" + name;
    auto text = find_file(where + "/" + kManifest, kLargestManifest);
    auto parts = text ? split(*text) : std::nullopt;
    if (parts && verifies(*parts, keys[0])) continue;
    if (std::string why = why_unsigned(parts, keys); !why.empty()) {
      rotated.left.push_back(name + ": " + why);
      continue;
    }
    ::unlink(aside.c_str());  // of one that was killed
    write_new(aside, sign(parts->body, keys[0]));
    check(::rename(aside.c_str(), (where + "/" + kManifest).c_str()), "sign {} again", where);
    sync_directory(where);
    rotated.signed_again.push_back(name);
  }
}

Store::Rotated Store::rotate_key() {
  make_dirs(path(), 0700);
  Fd whole = lock_store(path(), LOCK_EX);
  Keys keys = keys_of(directories_);
  Rotated rotated;
  if (keys.in_rotation()) {  // one that was killed ends first: there is room for one old key
    sign_all_again(keys.accepted(), rotated);
    keys.end_rotation();
    rotated = {};
  }
  keys.begin_rotation();
  sign_all_again(keys.accepted(), rotated);
  keys.end_rotation();
  return rotated;
}

}  // namespace runner::snapshot
