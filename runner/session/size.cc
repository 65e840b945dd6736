#include "runner/session/size.h"

#include <fts.h>
#include <sys/stat.h>

#include <memory>
#include <set>
#include <utility>

namespace runner::session {

std::uint64_t bytes_on_disk(const std::string& path) {
  char* roots[] = {const_cast<char*>(path.c_str()), nullptr};
  // fts(3) changes the directory as it goes: a path that the workload made longer than PATH_MAX is walked too.
  std::unique_ptr<FTS, int (*)(FTS*)> walk(::fts_open(roots, FTS_PHYSICAL | FTS_XDEV, nullptr), ::fts_close);
  std::set<std::pair<dev_t, ino_t>> seen;
  std::uint64_t bytes = 0;
  while (FTSENT* at = walk ? ::fts_read(walk.get()) : nullptr) {
    if (at->fts_info == FTS_DP || at->fts_info == FTS_NS || at->fts_info == FTS_ERR || !at->fts_statp) continue;
    const struct stat& info = *at->fts_statp;
    bool again = at->fts_info != FTS_D && info.st_nlink > 1 && !seen.emplace(info.st_dev, info.st_ino).second;
    if (!again) bytes += static_cast<std::uint64_t>(info.st_blocks) * 512;
  }
  return bytes;
}

}  // namespace runner::session
