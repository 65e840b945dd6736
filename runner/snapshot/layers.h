// The writable layer of a session, copied into a snapshot; and as it is found again.
#pragma once

#include <cstdint>
#include <string>

#include "runner/snapshot/attributes.h"

namespace runner::snapshot {

struct CopiedLayer {
  std::uint64_t bytes = 0;  // of the files' contents, holes not counted
  std::uint64_t files = 0;  // names of all kinds, the top not counted
  bool cloned = false;      // by reflink, all of it: nothing was copied
  std::uint64_t ms = 0;     // that it took
};

/// Copies the overlay's upper folder `from`, of a session that stands still, into `to`, an empty directory (Draft::make_layer): owners,
/// modes, times, holes, links of both kinds, whiteouts, named pipes and sockets, and the attributes user.*, trusted.overlay.*,
/// security.capability and the ACLs. Ids become those of an image, 0 to 65535, in owners, ACLs and capabilities; one outside
/// [first_id, first_id + 65536) is an error. So is a device, a path longer than 4,000 bytes, and whatever cannot be copied. No link is
/// followed. Every error names the file, as it is called in the layer. Nothing is synced.
///
/// The copy is what isolate::Overlay::lower wants, with lower_ids mapping 0 to the new session's range: it shows what the original showed.
CopiedLayer copy_layer(const std::string& from, const std::string& to, std::uint32_t first_id);

/// The same from any ids to any others: a layer of a snapshot, for a session of its own.
CopiedLayer copy_layer(const std::string& from, const std::string& to, const Shift& shift);

/// What a layer, a folder of the host, says of a path in it: overlayfs's rules of whiteouts and opaque folders.
enum class Said { Nothing, Here, Gone };
Said look_in_layer(const std::string& layer, const std::string& path);

}  // namespace runner::snapshot
