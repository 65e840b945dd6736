#include "runner/snapshot/images.h"

#include <fcntl.h>
#include <unistd.h>

#include <cstring>
#include <string>
#include <vector>

#include "images.pb-c.h"
#include "isolate/sys/error.h"
#include "isolate/sys/file.h"

namespace runner::snapshot {

using namespace isolate::sys;

namespace {

// An image is two magic numbers, a length, and the message.
constexpr std::uint32_t kMagic[] = {0x54564319, 0x55474906};  // CRIU's IMG_COMMON_MAGIC and USERNS_MAGIC
constexpr const char* kFile = "userns-";

struct Extents {
  explicit Extents(const std::vector<isolate::IdRange>& ranges) {
    entries.reserve(ranges.size());
    for (const isolate::IdRange& range : ranges) {
      entries.push_back(UID_GID_EXTENT__INIT);
      entries.back().first = range.inside;
      entries.back().lower_first = range.outside;
      entries.back().count = range.count;
    }
    for (UidGidExtent& entry : entries) list.push_back(&entry);
  }
  std::vector<UidGidExtent> entries;
  std::vector<UidGidExtent*> list;
};

}  // namespace

void set_id_map(int folder, const isolate::IdMap& ids) {
  Extents uids(ids.uids), gids(ids.gids);
  UsernsEntry entry = USERNS_ENTRY__INIT;
  entry.n_uid_map = uids.list.size();
  entry.uid_map = uids.list.data();
  entry.n_gid_map = gids.list.size();
  entry.gid_map = gids.list.data();
  std::uint32_t size = static_cast<std::uint32_t>(userns_entry__get_packed_size(&entry));
  std::string text(sizeof kMagic + sizeof size + size, '\0');
  std::memcpy(text.data(), kMagic, sizeof kMagic);
  std::memcpy(text.data() + sizeof kMagic, &size, sizeof size);
  userns_entry__pack(&entry, reinterpret_cast<std::uint8_t*>(text.data() + sizeof kMagic + sizeof size));

  for (const std::string& name : list_dir(fmt::format("/proc/self/fd/{}", folder))) {
    if (!name.starts_with(kFile)) continue;
    std::string before = read_file_at(folder, name);
    if (before.size() < sizeof kMagic || std::memcmp(before.data(), kMagic, sizeof kMagic) != 0)
      throw std::runtime_error(fmt::format("{} of the snapshot is not an image that this version knows", name));
    Fd file(check(::openat(folder, name.c_str(), O_WRONLY | O_TRUNC | O_CLOEXEC), "open {}", name));
    write_all(file.get(), text);
    return;
  }
  throw std::runtime_error("the snapshot has no image of a user namespace");
}

}  // namespace runner::snapshot
