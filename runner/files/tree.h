// Trees of files into tar streams and out of them, where somebody else may change the tree in the meantime, or have made the stream.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "isolate/sys/fd.h"
#include "runner/files/tar.h"

namespace runner::files {

/// Hears of what was left out, and why.
using Note = std::function<void(const std::string& text)>;

/// Something in a directory; no link is followed from here on.
struct Spot {
  isolate::sys::Fd dir;
  std::string name;  // of one component; for a packed tree "." is the directory itself
};

/// Writes what is at `from`, and below, as `as`, `as`/x, ... Sockets, pipes and devices are left out with a note.
void pack(const Spot& from, const std::string& as, TarWriter& writer, const Note& note);

struct UnpackOptions {
  bool keep_ids = false;       // what is made belongs to the ids of the stream; else to whoever runs this
  std::uint32_t modes = 0777;  // those bits of the stream's modes that are taken
};

/// Makes what the stream holds. `land` is called once, with whether the stream's first entry is a directory, and says where that entry
/// goes (Spot::name empty: its contents go into the directory). Nothing is made outside of that directory, whatever the stream says and
/// whoever exchanges directories for links meanwhile. An entry that would lead outside ends it with an error; a device is left out with a note.
void unpack(TarReader& reader, const std::function<Spot(bool directory)>& land, const UnpackOptions& options,
            const Note& note);

/// The components of a name of a stream, without "."; throws TarError for what may not be there.
std::vector<std::string> components_of(const std::string& name);

}  // namespace runner::files
