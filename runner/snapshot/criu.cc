#include "runner/snapshot/criu.h"

#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <memory>
#include <optional>
#include <stdexcept>

#include "isolate/sealed.h"
#include "isolate/sys/error.h"
#include "isolate/sys/file.h"
#include "isolate/sys/socket.h"
#include "rpc.pb-c.h"

namespace runner::snapshot {

using namespace isolate::sys;

namespace {

// RUNNER_CRIU_LOG=4 makes CRIU tell all that it does, on our stderr.
int asked_level() {
  const char* level = std::getenv("RUNNER_CRIU_LOG");
  return level ? std::atoi(level) : 0;
}

// protobuf-c wants arrays of char*; these keep them.
struct Wire {
  Wire(const CriuOptions& o, bool restores) {
    text(message.root, o.root);
    text(message.log_file, o.log);
    text(message.parent_img, o.parent);
    message.images_dir_fd = o.images;
    auto set = [](auto& has, auto& field, auto value) { has = true, field = value; };
    set(message.has_work_dir_fd, message.work_dir_fd, o.work);
    set(message.has_log_level, message.log_level, std::max(o.log_level, asked_level()));
    if (o.pid) set(message.has_pid, message.pid, o.pid);
    if (o.status_fd >= 0) set(message.has_status_fd, message.status_fd, o.status_fd);
    if (o.ghost_limit) set(message.has_ghost_limit, message.ghost_limit, o.ghost_limit);
    if (o.empty_namespaces) set(message.has_empty_ns, message.empty_ns, static_cast<std::uint32_t>(o.empty_namespaces));
    set(message.has_leave_running, message.leave_running, o.leave_running);
    set(message.has_tcp_established, message.tcp_established, o.tcp_established);
    set(message.has_tcp_close, message.tcp_close, o.tcp_close);
    set(message.has_tcp_skip_in_flight, message.tcp_skip_in_flight, true);
    set(message.has_ext_unix_sk, message.ext_unix_sk, o.ext_unix_sk);
    set(message.has_shell_job, message.shell_job, o.shell_job);
    set(message.has_file_locks, message.file_locks, o.file_locks);
    set(message.has_link_remap, message.link_remap, o.link_remap);
    set(message.has_lazy_pages, message.lazy_pages, o.lazy_pages);
    set(message.has_auto_dedup, message.auto_dedup, o.auto_dedup);
    set(message.has_track_mem, message.track_mem, o.track_memory);
    set(message.has_notify_scripts, message.notify_scripts, true);
    set(message.has_orphan_pts_master, message.orphan_pts_master, o.orphan_pts_master);
    set(message.has_ext_masters, message.ext_masters, o.ext_masters);
    text(message.freeze_cgroup, o.freeze_cgroup);
    if (o.page_server_port) {
      text(server.address, o.page_server);
      set(server.has_port, server.port, o.page_server_port);
      message.ps = &server;
    }
    if (restores) set(message.has_rst_sibling, message.rst_sibling, true);
    // The groups are ours: CRIU would take seconds on a host with thousands. The network namespace is ours, and quiet.
    set(message.has_manage_cgroups_mode, message.manage_cgroups_mode, CRIU_CG_MODE__IGNORE);
    set(message.has_network_lock, message.network_lock, CRIU_NETWORK_LOCK_METHOD__SKIP);

    for (const std::string& each : o.external) externals.push_back(const_cast<char*>(each.c_str()));
    message.n_external = externals.size();
    message.external = externals.data();
    inherited.reserve(o.inherit.size());
    for (const auto& [key, fd] : o.inherit) {
      inherited.push_back(INHERIT_FD__INIT);
      inherited.back().key = const_cast<char*>(key.c_str());
      inherited.back().fd = fd;
    }
    for (InheritFd& each : inherited) inherited_list.push_back(&each);
    message.n_inherit_fd = inherited_list.size();
    message.inherit_fd = inherited_list.data();
  }
  CriuOpts message = CRIU_OPTS__INIT;

 private:
  static void text(char*& field, const std::string& value) {
    if (!value.empty()) field = const_cast<char*>(value.c_str());
  }
  CriuPageServerInfo server = CRIU_PAGE_SERVER_INFO__INIT;
  std::vector<char*> externals;
  std::vector<InheritFd> inherited;
  std::vector<InheritFd*> inherited_list;
};

void send(int socket, const CriuReq& request) {
  std::string bytes(criu_req__get_packed_size(&request), '\0');
  criu_req__pack(&request, reinterpret_cast<std::uint8_t*>(bytes.data()));
  send_message(socket, bytes);
}

using Response = std::unique_ptr<CriuResp, void (*)(CriuResp*)>;

Response receive(int socket, std::vector<Fd>& fds) {
  std::optional<Message> message = receive_message(socket);
  if (!message) throw std::runtime_error("the criu process ended without an answer");
  CriuResp* response = criu_resp__unpack(nullptr, message->bytes.size(), reinterpret_cast<const std::uint8_t*>(message->bytes.data()));
  if (!response) throw std::runtime_error("criu's answer cannot be read: is it of another version?");
  fds = std::move(message->fds);
  return {response, [](CriuResp* r) { criu_resp__free_unpacked(r, nullptr); }};
}

// The first error is the cause; what follows are its consequences. "(00.012345) Error (criu/files.c:12): text"
std::string first_error(int folder, const std::string& log) {
  std::string text = find_file_at(folder, log, 64 << 20).value_or("");
  for (std::size_t at = 0; (at = text.find("Error (", at)) != std::string::npos; ++at) {
    std::string line = text.substr(at, text.find('\n', at) - at);
    std::size_t said = line.find("): ");
    if (said != std::string::npos) line.erase(0, said + 3);
    if (!line.starts_with("rlimit:")) return line;  // it does without more descriptors
  }
  return {};
}

int patience() {
  const char* given = std::getenv("RUNNER_CRIU_TIMEOUT");
  int seconds = given ? std::atoi(given) : 0;
  return seconds > 0 ? seconds : 120;
}

void wait_for_answer(int socket, const CriuOptions& options) {
  for (int left = patience(); left > 0;) {
    pollfd wait{socket, POLLIN, 0};
    int ready = ::poll(&wait, 1, 1000);
    if (ready > 0) return;
    if (ready == -1 && errno != EINTR) fail(errno, "wait for criu");
    if (ready == 0) --left;
    std::string why = options.stuck ? options.stuck() : "";
    if (!why.empty()) {
      std::string error = first_error(options.work, options.log);
      throw std::runtime_error(fmt::format("criu hangs: {}{}{}", why, error.empty() ? "" : "; its first error was: ", error));
    }
  }
  throw std::runtime_error(fmt::format("criu has not answered for {} s, and was ended (RUNNER_CRIU_TIMEOUT=SECONDS gives it more)", patience()));
}

}  // namespace

void Criu::become(const std::string& program, int socket, bool quiet, bool reads) {
  if (quiet) {
    Fd nothing = open_file("/dev/null", O_RDWR);
    for (int fd = 0; fd < 3; ++fd) check(::dup2(nothing.get(), fd), "let go of descriptor {}", fd);
  }
  // The descriptor keeps its number: what is inherited may stand anywhere.
  check(::fcntl(socket, F_SETFD, 0), "hand the socket to criu");
  std::string number = std::to_string(socket);
  // Beside us, as long as nothing else is wanted.
  std::string folder = isolate::program_path();
  folder.erase(folder.rfind('/'));
  for (const std::string& path : {folder + "/runner-criu.so", folder + "/../libexec/runner/runner-criu.so", std::string(RUNNER_LIBEXEC "/runner-criu.so")})
    if (::access(path.c_str(), R_OK) == 0) {
      ::setenv("LD_PRELOAD", path.c_str(), 0);
      break;
    }
  if (reads) ::setenv("RUNNER_CRIU_READS", "1", 1);
  ::execlp(program.c_str(), "criu", "swrk", number.c_str(), nullptr);
  fail(errno, "execute {}", program);
}

pid_t Criu::request(int type, const char* what, const CriuOptions& options, const CriuHook& hook) {
  Wire wire(options, type == CRIU_REQ_TYPE__RESTORE);
  CriuReq request = CRIU_REQ__INIT;
  request.type = static_cast<CriuReqType>(type);
  request.opts = &wire.message;
  send(socket_.get(), request);

  std::string refused;
  pid_t root = 0;
  for (;;) {
    wait_for_answer(socket_.get(), options);
    std::vector<Fd> fds;
    Response response = receive(socket_.get(), fds);
    if (response->type != CRIU_REQ_TYPE__NOTIFY) {
      if (asked_level()) fmt::print(stderr, "{}", find_file_at(options.work, options.log, 64 << 20).value_or(""));
      if (response->success && refused.empty()) return response->restore ? response->restore->pid : 0;
      std::string why = !refused.empty() ? refused : first_error(options.work, options.log);
      if (why.empty()) why = response->cr_errmsg && *response->cr_errmsg ? response->cr_errmsg : error_text(response->cr_errno);
      // Since 6.16 SO_PASSCRED can be asked of UNIX sockets only, which older CRIUs do not know.
      if (why.find("Can't get 1:16 opt") != std::string::npos) why += " (an internet socket is open: on Linux 6.16 and later that needs CRIU 4.2)";
      throw std::runtime_error(fmt::format("criu cannot {} the processes: {}", what, why));
    }
    CriuReq answer = CRIU_REQ__INIT;
    answer.type = CRIU_REQ_TYPE__NOTIFY;
    answer.has_notify_success = true;
    answer.notify_success = true;
    try {
      if (response->notify && response->notify->pid) root = response->notify->pid;  // it is told at some points only
      if (options.on_terminal && !fds.empty()) options.on_terminal(std::move(fds.front()));
      if (refused.empty() && response->notify) hook(response->notify->script ? response->notify->script : "", root);
    } catch (const std::exception& error) {
      refused = error.what();
      answer.notify_success = false;
    }
    send(socket_.get(), answer);
  }
}

std::string Criu::version() {
  CriuReq request = CRIU_REQ__INIT;
  request.type = CRIU_REQ_TYPE__VERSION;
  request.has_keep_open = request.keep_open = true;
  send(socket_.get(), request);
  wait_for_answer(socket_.get(), {});
  std::vector<Fd> fds;
  Response response = receive(socket_.get(), fds);
  if (!response->success || !response->version) throw std::runtime_error("criu does not say its version: is it older than 4.1?");
  const CriuVersion& v = *response->version;
  return v.has_sublevel ? fmt::format("{}.{}.{}", v.major_number, v.minor_number, v.sublevel) : fmt::format("{}.{}", v.major_number, v.minor_number);
}

void Criu::dump(const CriuOptions& options, const CriuHook& hook) { request(CRIU_REQ_TYPE__DUMP, "dump", options, hook); }
void Criu::pre_dump(const CriuOptions& options, const CriuHook& hook) { request(CRIU_REQ_TYPE__PRE_DUMP, "pre-dump", options, hook); }
pid_t Criu::restore(const CriuOptions& options, const CriuHook& hook) { return request(CRIU_REQ_TYPE__RESTORE, "restore", options, hook); }

}  // namespace runner::snapshot
