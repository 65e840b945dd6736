// How runner-model gives up all that it does not need, before it has seen a byte of what others send.
#pragma once

#include <sys/types.h>

#include <optional>
#include <string>

namespace runner::agent::model {

struct Lock {
  std::optional<uid_t> uid;  // root only; nobody's if there is none
  std::optional<gid_t> gid;
  std::string empty_root;    // to live in, where that may be done; empty: none
};

/// Nobody reads our memory, and no core is written. To be called before the key is read.
void hide();

/// Closes every descriptor but the standard ones and `socket`, whatever was inherited.
void close_others(int socket);

/// No privilege, no files, not even as stdin or stderr, no programs; then only the system calls of a client of the network.
void lock_in(const Lock& lock);

}  // namespace runner::agent::model
