#include "isolate/init/call.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "isolate/execute.h"
#include "isolate/privileges.h"
#include "isolate/sys/error.h"
#include "isolate/sys/file.h"
#include "isolate/terminal.h"

namespace isolate::init {

using namespace sys;

namespace {

struct Pipe {
  Fd read, write;
};

// Our end must not block us.
Pipe output_pipe() {
  auto [read, write] = make_pipe();
  check(::fcntl(read.get(), F_SETFL, O_NONBLOCK), "use a pipe without blocking");
  ::fcntl(read.get(), F_SETPIPE_SZ, kPipeRing);  // fewer turns for who prints much; the usual size will do
  return {std::move(read), std::move(write)};
}
Pipe input_pipe() {
  auto [read, write] = make_pipe();
  check(::fcntl(write.get(), F_SETFL, O_NONBLOCK), "use a pipe without blocking");
  return {std::move(read), std::move(write)};
}

struct Channel {
  Fd ours, theirs;
};
Channel make_channel() {
  int ends[2];
  check(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), "make a channel");
  Channel channel{Fd(ends[0]), Fd(ends[1])};
  check(::fcntl(ends[0], F_SETFL, O_NONBLOCK), "use a channel without blocking");
  return channel;
}

std::size_t waiting_in(int fd) {
  int count = 0;
  return ::ioctl(fd, FIONREAD, &count) == -1 ? 0 : static_cast<std::size_t>(count);
}

// Its standard descriptors, and the channel; -1: none of ours.
using Given = int[4];

[[noreturn]] void become_workload(const SpawnRequest& request, const Given& given, TerminalPair terminal, std::vector<Fd> groups, Link link) noexcept {
  Stage stage = Stage::Start;
  const Process& process = request.process;
  try {
    enter_v1(std::move(groups));
    stage = Stage::Terminal;
    reset_signals();
    ::umask(022);
    for (int i = 0; i < 4; ++i)
      if (given[i] >= 0) check(::dup2(given[i], i), "set descriptor {}", i);  // 3 was the control socket, which is no business of its
    ::setsid();
    if (terminal.slave) take_terminal(terminal.slave.get());

    stage = Stage::Privileges;
    set_rlimits(process.rlimits);
    become_user(process, process.capabilities, false);
    forbid_new_privileges();
    enter_directory(process.cwd);
    std::string program = find_program(process.argv, process.env);

    stage = Stage::Seccomp;
    close_from(given[kChannelStream] >= 0 ? kChannelStream + 1 : 3, {link.fd()});
    for (const Filter& filter : request.filters) load_filter(filter);  // last: it may forbid everything above

    stage = Stage::Exec;
    execute(program, process.argv, process.env);
  } catch (const std::exception& error) {
    link.report(stage, error);
  }
  ::_exit(125);
}

}  // namespace

Call::Call(std::uint32_t number, const SpawnRequest& request, std::uint8_t flags, std::vector<Fd> groups, Send send)
    : number_(number), flags_(flags), send_(std::move(send)) {
  auto [ours, theirs] = Link::make();
  TerminalPair terminal;
  Pipe in, out, err;
  Channel channel;
  if (request.process.terminal) {
    terminal = open_terminal(open_dir("/").get(), *request.process.terminal, request.process.uid);
    master_ = std::move(terminal.master);
    check(::fcntl(master_.get(), F_SETFL, O_NONBLOCK), "use a terminal without blocking");
    streams_.push_back({1, Fd(), Ring(request.process.terminal->scrollback ? request.process.terminal->scrollback : kTerminalRing)});
  } else {
    out = output_pipe(), err = output_pipe();
    streams_.push_back({1, std::move(out.read), Ring(kPipeRing)});
    streams_.push_back({2, std::move(err.read), Ring(kPipeRing)});
    if (flags & kChannel) {
      in.read = open_file("/dev/null", O_RDONLY);
      channel = make_channel();
      in_ = Fd(check(::fcntl(channel.ours.get(), F_DUPFD_CLOEXEC, 0), "keep a channel"));
      streams_.push_back({kChannelStream, std::move(channel.ours), Ring(kPipeRing)});
    } else {
      in = input_pipe();
      if (flags & kKeepInput) in_ = std::move(in.write);
      in.write.close();
    }
  }
  Fd born_in;
  if (flags & kInGroup) born_in = std::move(groups.at(0)), groups.erase(groups.begin());
  Child child = clone_process(0, born_in.get());
  if (child.pid() == 0) {
    ours.close();
    Given given = {in.read.get(), out.write.get(), err.write.get(), channel.theirs.get()};
    become_workload(request, given, std::move(terminal), std::move(groups), std::move(theirs));
  }
  link_ = std::move(ours);
  known_pid_ = pid_ = child.release();            // reaped with all others
}

void Call::tell(Kind kind, std::uint64_t offset, std::string_view bytes) {
  send_({kind, 0, number_, offset, {}, {}}, bytes);
}

void Call::fail(const SetupFailure& f) {
  failure_ = encode_failure(f);
  tell(Kind::Failed, 0, failure_);
  told_ = true;
}

void Call::announce() {
  if (!failure_.empty()) return tell(Kind::Failed, 0, failure_);
  if (started_) tell(Kind::Started, static_cast<std::uint64_t>(known_pid_));
  if (told_) tell(Kind::Exited, static_cast<std::uint64_t>(exit_->code << 8 | exit_->signal));
}

void Call::resize(std::uint64_t size) {
  winsize now{static_cast<unsigned short>(size >> 16), static_cast<unsigned short>(size), 0, 0};
  if (master_) ::ioctl(master_.get(), TIOCSWINSZ, &now);
}

// An interpreter is interrupted as from a terminal: with what it has started and waits for.
void Call::signal(int number) const {
  if (pid_ <= 0) return;
  if (!(flags_ & kChannel) || ::kill(-pid_, number) == -1) ::kill(pid_, number);  // before its setsid it has no group
}

void Call::acknowledge(std::uint8_t stream, std::uint64_t offset) {
  for (Stream& each : streams_)
    if (each.number == stream) each.acknowledged = std::clamp(offset, each.acknowledged, each.sent);
}

void Call::replay(std::uint8_t stream, std::uint64_t from, const std::string& viewer) {
  for (Stream& each : streams_) {
    if (each.number != stream) continue;
    std::uint64_t begin = std::clamp(from, each.ring.begin(), each.sent);
    send_({Kind::Replayed, stream, number_, begin, {}, {}}, viewer);
    again_.push_back({stream, begin, each.sent, viewer});
  }
}

void Call::reaped(const Exit& exit) {
  exit_ = exit;
  pid_ = 0;
  in_.close();
  // What it wrote is in the pipe; a child of its that lives on may fill that again and again, and is not waited for.
  for (Stream& stream : streams_) stream.left = waiting_in(descriptor(stream));
}

// What is neither acknowledged nor, of a replay that waits for room in the socket, sent again must not be overwritten.
std::uint64_t Call::kept_from(const Stream& stream) const {
  std::uint64_t from = stream.acknowledged;
  for (const Again& job : again_)
    if (job.stream == stream.number && job.next < job.until) from = std::min(from, job.next);
  return from;
}

bool Call::wants(const Stream& stream) const {
  if (stream.ended || descriptor(stream) < 0) return false;
  if (stream.number == kChannelStream && owing_) return false;  // it is read once the others have been
  return stream.ring.end() - kept_from(stream) < stream.ring.capacity();
}

void Call::wait_for(std::vector<pollfd>& list) const {
  list.push_back({link_.fd(), POLLIN, 0});
  bool input = in_ && (!input_.empty() || input_ended_);
  list.push_back({input ? in_.get() : !input_.empty() ? master_.get() : -1, POLLOUT, 0});
  for (const Stream& stream : streams_) list.push_back({wants(stream) ? descriptor(stream) : -1, POLLIN, 0});
}

void Call::ready(const pollfd* list) {
  // The order matters: what a failed process reports comes before the end of its streams.
  if (list[0].revents) hear_link();
  if (list[1].revents || (input_ended_ && input_.empty())) write_input();
  for (std::size_t i = 0; i < streams_.size(); ++i)
    if (list[2 + i].revents || (owing_ && streams_[i].number == kChannelStream)) read_in_order(streams_[i]);
}

void Call::hear_link() {
  try {
    link_.expect_end();
    started_ = true;
    tell(Kind::Started, static_cast<std::uint64_t>(known_pid_));
  } catch (const SetupError& error) {
    fail(error.failure());
  } catch (const std::exception& error) {
    fail(describe(Stage::Start, error));
  }
  link_.close();
}

// Also when it has ended: its children may still write, into a pipe that nobody else empties.
void Call::read(Stream& stream) {
  auto [to, room] = stream.ring.room(kept_from(stream));
  if (room == 0) return;
  ssize_t got = ::read(descriptor(stream), to, room);
  // Fewer than were owed: a pipe can be opened again by those who have it, and read.
  stream.owed = got > 0 ? stream.owed - std::min(stream.owed, static_cast<std::size_t>(got)) : 0;
  if (got == -1 && (errno == EAGAIN || errno == EINTR)) return;
  if (got <= 0) {
    stream.ended = true;                          // EIO is how a terminal says it
    stream.own.close();
    return;
  }
  if (told_) return;                              // of nobody's interest: read over by the next
  auto count = static_cast<std::size_t>(got);
  if (stream.left) count = std::min(count, *stream.left), *stream.left -= count;
  stream.ring.added(count);
}

// Two pipes and a socket keep no order among each other, and an answer on the channel means: that was all I printed. So what lies in
// the pipes when the channel becomes readable is read first, as the rings find room for it. It is counted once: a child that prints for
// ever must not hold up the answer.
void Call::read_in_order(Stream& stream) {
  if (stream.number != kChannelStream) return read(stream);
  bool first = !std::exchange(owing_, true), owed = false;
  for (Stream& before : streams_) {
    if (before.number == kChannelStream) continue;
    if (first && !before.ended) before.owed = waiting_in(descriptor(before));
    while (before.owed > 0 && wants(before)) read(before);
    owed = owed || before.owed > 0;
  }
  if (owed) return;
  owing_ = false;
  read(stream);
}

void Call::write_input() {
  int to = in_ ? in_.get() : master_.get();
  ssize_t done = input_.empty() || to < 0 ? 0 : ::write(to, input_.data(), input_.size());
  if (done == -1 && (errno == EAGAIN || errno == EINTR)) return;
  if (done == -1 || to < 0) done = static_cast<ssize_t>(input_.size());  // nobody reads it: gone
  input_.erase(0, static_cast<std::size_t>(done));
  input_written_ += static_cast<std::uint64_t>(done);
  if (done > 0) tell(Kind::Acknowledge, input_written_);
  if (input_ended_ && input_.empty()) in_.close();
}

bool Call::send_again(const Stream& stream) {
  for (Again& job : again_) {
    while (job.stream == stream.number && job.next < job.until) {
      std::string_view piece = stream.ring.piece(job.next, std::min<std::size_t>(kLargestPiece, job.until - job.next));
      Frame frame{Kind::Again, stream.number, number_, job.next, {}, {}};
      std::string bytes = job.viewer;
      if (!send_(frame, bytes.append(piece))) return false;
      job.next += piece.size();
    }
  }
  std::erase_if(again_, [&](const Again& job) { return job.stream == stream.number; });
  return true;
}

void Call::pump() {
  bool all_done = exit_ && link_.fd() < 0;
  for (Stream& stream : streams_) {
    bool held = owing_ && stream.number == kChannelStream;
    if (exit_ && stream.left && *stream.left > 0 && (held || wants(stream))) read_in_order(stream);
    if (!send_again(stream)) return;
    while (stream.sent < stream.ring.end()) {
      std::string_view piece = stream.ring.piece(stream.sent, kLargestPiece);
      if (!send_({Kind::Output, stream.number, number_, stream.sent, {}, {}}, piece)) return;
      stream.sent += piece.size();
    }
    all_done = all_done && stream.done();
  }
  if (!all_done || told_) return;
  told_ = true;
  tell(Kind::Exited, static_cast<std::uint64_t>(exit_->code << 8 | exit_->signal));
}

}  // namespace isolate::init
