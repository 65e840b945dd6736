// Messages with descriptors over a socket pair.
#pragma once

#include <sys/socket.h>

#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "isolate/sys/fd.h"

namespace isolate::sys {

struct Message {
  std::string bytes;
  std::vector<Fd> fds;
};

/// Both ends of a SOCK_SEQPACKET pair, close-on-exec.
std::pair<Fd, Fd> socket_pair();
/// The end to read from and the one to write to, close-on-exec.
std::pair<Fd, Fd> make_pipe();

/// At most 64 KiB and 16 descriptors in one message.
/// The parts make one message. False when the socket is full and `dont_wait` was asked for.
bool send_parts(int socket, std::span<const std::string_view> parts, const std::vector<int>& fds = {}, bool dont_wait = false);
void send_message(int socket, const std::string& bytes, const std::vector<int>& fds = {});

/// Whether receiving would not wait: there is a message, or the end. For loops: an EAGAIN would be an exception, and the first one
/// that a program throws costs a millisecond.
bool readable(int socket);

/// Waits. Empty at the end of the stream: the peer closed its end or died. The first bytes go to `head` when one is given, the rest
/// into the message; a message that is shorter than it is EPROTO.
std::optional<Message> receive_message(int socket, std::span<char> head = {});

/// A listening socket at `path`, mode 0600 (of datagrams: one that has this name), and a connection to one. Paths longer than sun_path
/// are reached through a descriptor of their folder; "@name" is an abstract one.
Fd listen_at(const std::string& path, int type = SOCK_SEQPACKET);
Fd connect_to(const std::string& path, int type);

}  // namespace isolate::sys
