// Snapshots as one stream, from store to store.
//
// The stream is a tar of plain files in one order: manifest.json, then the files that it names, then for each layer the contents of its
// files as "layers/0/17", 17 being the number of the line in layers/0.index. Whoever reads it knows before each entry what name and size
// it must have, so that nothing else can be in it: no link, no second entry of a name, no way out.
#pragma once

#include <optional>
#include <string>

#include "runner/files/tar.h"
#include "runner/snapshot/store.h"

namespace runner::snapshot {

/// Layers of other snapshots come with it, as its own. Signed with `key` when there is one, else with the store's: then only this store,
/// or who has its key, will take it back. Everything is checked on the way; after a BadSnapshot the stream is cut short.
void export_snapshot(const Store& store, const Snapshot& snapshot, const std::optional<std::string>& key,
                     const files::Sink& sink);

struct ImportOptions {
  std::string name;                // empty: as it is called in the stream
  std::optional<std::string> key;  // one more that its signature may be of
  bool trust = false;              // take what is signed with no known key
};

/// An imported snapshot becomes processes that root starts: what they may do is in its images. So a stream that is signed with none of the
/// keys is refused unless it is trusted; what is taken is signed with this store's key. Every digest is checked, and a trusted stream can
/// write nowhere but into its draft. Throws files::TarError or std::runtime_error; then nothing is left.
Snapshot import_snapshot(Store& store, const files::Source& source, const ImportOptions& options);

}  // namespace runner::snapshot
