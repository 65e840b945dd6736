// One process that runner-init started for the supervisor, with its streams.
#pragma once

#include <poll.h>

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "isolate/init/protocol.h"
#include "isolate/init/ring.h"
#include "isolate/link.h"
#include "isolate/sys/child.h"

namespace isolate::init {

class Call {
 public:
  /// Sends a frame to the supervisor; false when the socket is full. Frames without bytes always get through: they are queued.
  using Send = std::function<bool(const Frame& frame, std::string_view bytes)>;

  /// Makes the process, in the groups that came with Spawn. What cannot be made throws; what the process cannot do arrives as Failed.
  Call(std::uint32_t number, const SpawnRequest& request, std::uint8_t flags, std::vector<sys::Fd> groups, Send send);

  void input(const std::string& bytes) { input_ += bytes; }
  void end_input() { input_ended_ = true; }
  void resize(std::uint64_t size);
  void signal(int number) const;
  void acknowledge(std::uint8_t stream, std::uint64_t offset);
  void replay(std::uint8_t stream, std::uint64_t from, const std::string& viewer);
  void announce();                       ///< again, what has become of it: for a Spawn that comes twice
  void reaped(const sys::Exit& exit);    ///< its process has ended; what it wrote is still to be sent

  pid_t pid() const { return pid_; }     ///< 0 once reaped
  bool last() const { return flags_ & kLast; }
  bool told() const { return told_; }    ///< Exited or Failed is out

  /// What it waits for; then `ready`, with the entries as poll(2) left them.
  void wait_for(std::vector<pollfd>& list) const;
  void ready(const pollfd* list);
  /// Sends what can be sent.
  void pump();

 private:
  struct Stream {
    std::uint8_t number;
    sys::Fd own;                         // empty for a terminal: that is master_
    Ring ring;
    std::uint64_t sent = 0, acknowledged = 0;
    bool ended = false;
    std::optional<std::size_t> left;     // once the process has ended: bytes of its own that are still in the pipe
    std::size_t owed = 0;                // bytes that were in the pipe when the channel was last ready: they come before what it says
    bool done() const { return (ended || left == 0u) && sent == ring.end(); }
  };
  struct Again {
    std::uint8_t stream;
    std::uint64_t next, until;
    std::string viewer;
  };

  int descriptor(const Stream& stream) const { return stream.own ? stream.own.get() : master_.get(); }
  std::uint64_t kept_from(const Stream& stream) const;
  bool wants(const Stream& stream) const;
  void read(Stream& stream);
  void read_in_order(Stream& stream);
  void write_input();
  void hear_link();
  bool send_again(const Stream& stream);
  void tell(Kind kind, std::uint64_t offset = 0, std::string_view bytes = {});
  void fail(const SetupFailure& failure);

  std::uint32_t number_;
  std::uint8_t flags_;
  Send send_;
  pid_t pid_ = 0;
  int known_pid_ = 0;
  sys::Fd master_, in_;
  Link link_;
  std::vector<Stream> streams_;
  std::vector<Again> again_;
  std::string input_, failure_;
  std::uint64_t input_written_ = 0;
  std::optional<sys::Exit> exit_;
  bool input_ended_ = false, started_ = false, told_ = false, owing_ = false;
};

}  // namespace isolate::init
