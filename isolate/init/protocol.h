// What the supervisor and runner-init (PID 1 of a session) say to each other, one SOCK_SEQPACKET message each. A call is a process
// that the supervisor asked for, with its three streams or its terminal; it chooses the number. Call 0 is the session's program.
//
//   supervisor                          runner-init
//   Spawn N + request [+ cgroups] ────▶ makes streams and process; a number that is known already is only answered for
//                                     ◀── Started N (offset: pid inside)  or  Failed N (text: STAGE ERRNO PATH, a zero, CAUSE)
//                                     ◀── Output N, stream, offset, bytes     no more than the ring holds beyond what was acknowledged
//   Acknowledge N, stream, offset ─────▶ what lies before may go; a terminal's ring keeps it as long as there is room
//   Input N, offset, bytes ────────────▶
//                                     ◀── Acknowledge N, 0, offset    so much of the input has reached the process
//   EndInput N / Resize N / Signal N ──▶ offset: rows << 16 | columns / number
//   Replay N, stream, offset ──────────▶ text: who asks
//                                     ◀── Replayed N, stream, offset, text; then Again frames up to what was sent already
//                                     ◀── Exited N (offset: code << 8 | signal), behind the last byte that it wrote
//                                     ◀── Signal 0 (offset: number)  somebody else has sent one to PID 1, for the program
//   Forget N ──────────────────────────▶
//   Park ──────────────────────────────▶ for a snapshot, in which a socket that leads outside cannot be
//                                     ◀── Parked (offset: a descriptor of PID 1, the far end of the pair that is its control socket from
//                                         now on). What it has to say waits, until who takes that descriptor (pidfd_getfd(2)) sends
//   Wake ──────────────────────────────▶ closes its copy, and goes on
//   (closed) ──────────────────────────▶ kills everything and ends
//
// A call with a channel has a socket as descriptor 3, and nothing as stdin: Input goes there, and what it says there is stream 3, behind all
// that it printed before. So a program can tell its supervisor something that its own output, and its children's, cannot be mistaken for.
//
// Offsets make a lost connection harmless: whoever connects again asks from where it was. The request lies in a memory file, since
// arguments and environment may be larger than a message.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "isolate/link.h"
#include "isolate/plan.h"
#include "isolate/seccomp.h"
#include "isolate/sys/fd.h"

namespace isolate::init {

inline constexpr int kControl = 3;  // the descriptor on which runner-init finds its socket

enum class Kind : std::uint8_t {
  Spawn, Go, Input, EndInput, Resize, Signal, Acknowledge, Replay, Forget,     // to runner-init; Acknowledge both ways
  Started, Failed, Output, Exited, Replayed, Again,                            // from it
  Park, Parked, Wake,
};

// Of Spawn, in `stream`. kInGroup: behind the request comes the v2 group that it is born in; all that follows are doors of v1 groups, which it
// enters itself (Cgroup::v1_doors()). kLast: PID 1 ends with this call.
constexpr std::uint8_t kInGroup = 1, kKeepInput = 2, kLast = 4, kChannel = 8;
constexpr std::size_t kLargestPiece = 60 << 10;                  // bytes in one Output or Input
constexpr std::size_t kPipeRing = 256 << 10;                     // of a pipe: what may be under way
constexpr std::size_t kTerminalRing = 1 << 20;                   // of a terminal: what a later viewer can see again

constexpr std::uint8_t kChannelStream = 3;                         // and the descriptor that the program finds it at

struct Frame {
  Kind kind = Kind::Spawn;
  std::uint8_t stream = 0;   // 0 stdin, 1 stdout or the terminal, 2 stderr, 3 the channel
  std::uint32_t call = 0;
  std::uint64_t offset = 0;
  std::string bytes;
  std::vector<sys::Fd> fds;
};

/// False when the socket is full and `dont_wait` was asked for. Throws when the other end is gone.
bool send_frame(int socket, const Frame& frame, std::string_view bytes, const std::vector<int>& fds = {}, bool dont_wait = false);
/// Waits; empty at the end of the stream.
std::optional<Frame> receive_frame(int socket);

/// What a Failed frame holds, and back; it has no hint.
std::string encode_failure(const SetupFailure& failure);
SetupFailure decode_failure(const std::string& bytes);

struct SpawnRequest {
  Process process;
  std::vector<Filter> filters;
};

std::string encode(const SpawnRequest& request);
SpawnRequest decode_spawn(const std::string& bytes);  ///< throws on a message of another version

}  // namespace isolate::init
