#include "isolate/init/protocol.h"

#include <algorithm>
#include <cstdio>
#include <cstring>

#include "isolate/sys/error.h"
#include "isolate/sys/socket.h"

namespace isolate::init {

namespace {

constexpr std::uint16_t kVersion = 2;

// Numbers as 8 bytes, texts and lists behind their length: both ends are the same build on the same machine.
struct Writer {
  std::string bytes;
  void number(std::uint64_t n) { bytes.append(reinterpret_cast<const char*>(&n), sizeof n); }
  void text(const std::string& t) {
    number(t.size());
    bytes += t;
  }
  void texts(const std::vector<std::string>& list) {
    number(list.size());
    for (const std::string& t : list) text(t);
  }
};

struct Reader {
  const std::string& bytes;
  std::size_t at = 0;
  const char* take(std::uint64_t size) {
    if (size > bytes.size() - at) sys::fail(EPROTO, "read a spawn request (it is cut short)");
    const char* from = bytes.data() + at;
    at += size;
    return from;
  }
  std::uint64_t number() {
    std::uint64_t n;
    std::memcpy(&n, take(sizeof n), sizeof n);
    return n;
  }
  // Of a list: each entry takes at least 8 bytes, so a damaged message cannot ask for more memory than it has itself.
  std::size_t size() {
    std::uint64_t n = number();
    if (n > bytes.size() / sizeof(std::uint64_t)) sys::fail(EPROTO, "read a spawn request (a list is too long)");
    return n;
  }
  template <typename Int>
  Int as() {
    return static_cast<Int>(number());
  }
  std::string text() {
    std::uint64_t size = number();
    return std::string(take(size), size);
  }
  std::vector<std::string> texts() {
    std::vector<std::string> list(size());
    for (std::string& t : list) t = text();
    return list;
  }
};

#pragma pack(push, 1)
struct Header {
  std::uint8_t kind, stream;
  std::uint16_t version;
  std::uint32_t call;
  std::uint64_t offset;
};
#pragma pack(pop)

}  // namespace

bool send_frame(int socket, const Frame& frame, std::string_view bytes, const std::vector<int>& fds, bool dont_wait) {
  Header header{static_cast<std::uint8_t>(frame.kind), frame.stream, kVersion, frame.call, frame.offset};
  std::string_view parts[] = {{reinterpret_cast<const char*>(&header), sizeof header}, bytes};
  return sys::send_parts(socket, parts, fds, dont_wait);
}

std::optional<Frame> receive_frame(int socket) {
  Header header;
  auto message = sys::receive_message(socket, {reinterpret_cast<char*>(&header), sizeof header});
  if (!message) return std::nullopt;
  if (header.version != kVersion) sys::fail(EPROTO, "read a frame (it is of another version of runner)");
  return Frame{static_cast<Kind>(header.kind), header.stream, header.call, header.offset, std::move(message->bytes), std::move(message->fds)};
}

std::string encode_failure(const SetupFailure& f) {
  return fmt::format("{} {} {}{}{}", static_cast<int>(f.stage), f.code, f.path, '\0', f.cause);
}

SetupFailure decode_failure(const std::string& text) {
  int stage = 0, code = 0, used = 0;
  std::sscanf(text.c_str(), "%d %d %n", &stage, &code, &used);
  std::string rest = text.substr(static_cast<std::size_t>(used));
  std::size_t zero = std::min(rest.find('\0'), rest.size() - 1);
  return {static_cast<Stage>(stage), code, rest.substr(0, zero), rest.substr(zero + 1), {}};
}

std::string encode(const SpawnRequest& request) {
  const Process& p = request.process;
  Writer w;
  w.number(kVersion);
  w.texts(p.argv);
  w.texts(p.env);
  w.text(p.cwd);
  w.number(p.uid);
  w.number(p.gid);
  w.number(p.groups.size());
  for (std::uint32_t group : p.groups) w.number(group);
  w.number(p.umask ? *p.umask : ~std::uint64_t{0});
  for (std::uint64_t set : {p.capabilities.bounding, p.capabilities.effective, p.capabilities.permitted,
                            p.capabilities.inheritable, p.capabilities.ambient})
    w.number(set);
  w.number(p.no_new_privileges);
  w.number(p.rlimits.size());
  for (const Rlimit& limit : p.rlimits) w.number(static_cast<std::uint64_t>(limit.resource)), w.number(limit.soft), w.number(limit.hard);
  w.number(p.terminal.has_value());
  if (p.terminal) w.number(p.terminal->rows), w.number(p.terminal->columns);
  w.number(request.filters.size());
  for (const Filter& filter : request.filters) {
    w.number(filter.flags);
    w.text({reinterpret_cast<const char*>(filter.program.data()), filter.program.size() * sizeof(sock_filter)});
  }
  // What came later stands at the end: a container of an older version has none of it.
  w.number(p.scheduler.has_value());
  if (const auto& s = p.scheduler)
    for (std::uint64_t n : {std::uint64_t{s->policy}, std::uint64_t{s->priority}, static_cast<std::uint64_t>(s->nice), s->flags, s->runtime, s->deadline, s->period}) w.number(n);
  w.number(p.io_priority.has_value());
  if (const auto& io = p.io_priority) w.number(static_cast<std::uint64_t>(io->io_class)), w.number(static_cast<std::uint64_t>(io->priority));
  w.number(p.personality ? *p.personality : ~std::uint64_t{0});
  w.text(p.exec_cpus_initial);
  w.text(p.exec_cpus);
  for (const Filter& filter : request.filters) w.text(filter.listener), w.text(filter.listener_metadata);
  w.text(p.apparmor);
  w.number(p.keep_groups);
  return w.bytes;
}

SpawnRequest decode_spawn(const std::string& bytes) {
  Reader r{bytes};
  if (r.number() != kVersion) sys::fail(EPROTO, "read a spawn request (it is of another version of runner)");
  SpawnRequest request;
  Process& p = request.process;
  p.argv = r.texts();
  p.env = r.texts();
  p.cwd = r.text();
  p.uid = r.as<std::uint32_t>();
  p.gid = r.as<std::uint32_t>();
  p.groups.resize(r.size());
  for (std::uint32_t& group : p.groups) group = r.as<std::uint32_t>();
  if (std::uint64_t mask = r.number(); mask != ~std::uint64_t{0}) p.umask = static_cast<std::uint32_t>(mask);
  for (std::uint64_t* set : {&p.capabilities.bounding, &p.capabilities.effective, &p.capabilities.permitted,
                             &p.capabilities.inheritable, &p.capabilities.ambient})
    *set = r.number();
  p.no_new_privileges = r.number() != 0;
  p.rlimits.resize(r.size());
  for (Rlimit& limit : p.rlimits) {
    limit.resource = r.as<int>();
    limit.soft = r.number();
    limit.hard = r.number();
  }
  if (r.number()) {
    p.terminal.emplace();
    p.terminal->rows = r.as<unsigned short>();
    p.terminal->columns = r.as<unsigned short>();
  }
  request.filters.resize(r.size());
  for (Filter& filter : request.filters) {
    filter.flags = r.as<unsigned>();
    std::string program = r.text();
    filter.program.resize(program.size() / sizeof(sock_filter));
    std::memcpy(filter.program.data(), program.data(), filter.program.size() * sizeof(sock_filter));
  }
  if (r.at == bytes.size()) return request;
  if (r.number()) {
    Scheduler& s = p.scheduler.emplace();
    s.policy = r.as<std::uint32_t>(), s.priority = r.as<std::uint32_t>(), s.nice = r.as<std::int32_t>();
    s.flags = r.number(), s.runtime = r.number(), s.deadline = r.number(), s.period = r.number();
  }
  if (r.number()) {
    IoPriority& io = p.io_priority.emplace();
    io.io_class = r.as<int>(), io.priority = r.as<int>();
  }
  if (std::uint64_t domain = r.number(); domain != ~std::uint64_t{0}) p.personality = static_cast<std::uint32_t>(domain);
  p.exec_cpus_initial = r.text();
  p.exec_cpus = r.text();
  for (Filter& filter : request.filters) filter.listener = r.text(), filter.listener_metadata = r.text();
  if (r.at != bytes.size()) p.apparmor = r.text();
  if (r.at != bytes.size()) p.keep_groups = r.number();
  return request;
}

}  // namespace isolate::init
