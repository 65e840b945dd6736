#include "runner/agent/model/lock.h"

#include <fcntl.h>
#include <grp.h>
#include <linux/capability.h>
#include <linux/close_range.h>
#include <sched.h>
#include <seccomp.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <memory>

#include "isolate/sys/error.h"
#include "isolate/sys/fd.h"
#include "isolate/sys/socket.h"

namespace runner::agent::model {

using namespace isolate::sys;

namespace {

constexpr uid_t kNobody = 65534;

bool is_stream(int fd) {
  struct stat about;
  return ::fstat(fd, &about) == 0 && (S_ISSOCK(about.st_mode) || S_ISFIFO(about.st_mode));
}

void become_nobody(const Lock& lock) {
  uid_t uid = lock.uid.value_or(kNobody);
  gid_t gid = lock.gid.value_or(lock.uid ? static_cast<gid_t>(*lock.uid) : static_cast<gid_t>(kNobody));
  // A user namespace that forbids it has no groups to give up.
  if (::setgroups(0, nullptr) == -1 && errno != EPERM) fail(errno, "give up the supplementary groups");
  check(::setresgid(gid, gid, gid), "become group {}", gid);
  check(::setresuid(uid, uid, uid), "become user {}", uid);
}

void drop_capabilities() {
  __user_cap_header_struct header{_LINUX_CAPABILITY_VERSION_3, 0};
  __user_cap_data_struct none[2] = {};
  check(::syscall(SYS_capset, &header, none), "give up all capabilities");
}

// What libcurl, OpenSSL and glibc call between here and the end, and what they may call when memory or time is short.
constexpr int kAllowed[] = {
    SCMP_SYS(read), SCMP_SYS(readv), SCMP_SYS(write), SCMP_SYS(writev), SCMP_SYS(close), SCMP_SYS(fcntl), SCMP_SYS(shutdown),
    SCMP_SYS(recvfrom), SCMP_SYS(recvmsg), SCMP_SYS(recvmmsg), SCMP_SYS(sendto), SCMP_SYS(sendmsg), SCMP_SYS(sendmmsg), SCMP_SYS(connect),
    SCMP_SYS(getsockname), SCMP_SYS(getpeername), SCMP_SYS(getsockopt), SCMP_SYS(setsockopt),
    SCMP_SYS(poll), SCMP_SYS(ppoll), SCMP_SYS(select), SCMP_SYS(pselect6),
    SCMP_SYS(brk), SCMP_SYS(munmap), SCMP_SYS(mremap), SCMP_SYS(madvise),
    SCMP_SYS(futex), SCMP_SYS(set_robust_list), SCMP_SYS(rseq), SCMP_SYS(sched_yield), SCMP_SYS(set_tid_address),
    SCMP_SYS(rt_sigaction), SCMP_SYS(rt_sigprocmask), SCMP_SYS(rt_sigreturn), SCMP_SYS(sigaltstack), SCMP_SYS(restart_syscall),
    SCMP_SYS(clock_gettime), SCMP_SYS(clock_getres), SCMP_SYS(clock_nanosleep), SCMP_SYS(nanosleep), SCMP_SYS(gettimeofday), SCMP_SYS(time),
    SCMP_SYS(getrandom), SCMP_SYS(getpid), SCMP_SYS(gettid), SCMP_SYS(getuid), SCMP_SYS(geteuid), SCMP_SYS(getgid), SCMP_SYS(getegid),
    SCMP_SYS(exit), SCMP_SYS(exit_group)};

struct ContextDeleter {
  void operator()(void* context) const { ::seccomp_release(context); }
};

class Filter {
 public:
  Filter() : context_(::seccomp_init(SCMP_ACT_ERRNO(EPERM))) {
    if (!context_) fail(ENOMEM, "make a seccomp filter");
  }

  template <typename... Conditions>
  void add(std::uint32_t action, int call, Conditions... conditions) {
    int result = ::seccomp_rule_add(context_.get(), action, call, sizeof...(conditions), conditions...);
    if (result < 0) fail(-result, "add system call {} to a seccomp filter", call);
  }

  template <typename... Conditions>
  void allow(int call, Conditions... conditions) {
    add(SCMP_ACT_ALLOW, call, conditions...);
  }

  void load() {
    int result = ::seccomp_load(context_.get());
    if (result < 0) fail(-result, "load a seccomp filter");
  }

 private:
  std::unique_ptr<void, ContextDeleter> context_;
};

Filter client_of_the_network() {
  Filter filter;
  for (int call : kAllowed) filter.allow(call);

  // Of the network only; the socket pair of libcurl's own wake-up was made before.
  for (int family : {AF_INET, AF_INET6}) filter.allow(SCMP_SYS(socket), SCMP_A0_64(SCMP_CMP_EQ, static_cast<scmp_datum_t>(family)));
  filter.allow(SCMP_SYS(ioctl), SCMP_A1_32(SCMP_CMP_EQ, FIONBIO));

  // Memory is never made into code.
  filter.allow(SCMP_SYS(mmap), SCMP_A2_64(SCMP_CMP_MASKED_EQ, PROT_EXEC, 0));
  filter.allow(SCMP_SYS(mprotect), SCMP_A2_64(SCMP_CMP_MASKED_EQ, PROT_EXEC, 0));

  // A thread, never a process. The flags of clone3 cannot be seen from here; glibc takes clone when there is no clone3.
  filter.allow(SCMP_SYS(clone), SCMP_A0_64(SCMP_CMP_MASKED_EQ, CLONE_THREAD, CLONE_THREAD));
  filter.add(SCMP_ACT_ERRNO(ENOSYS), SCMP_SYS(clone3));
  // abort(3) signals itself.
  filter.allow(SCMP_SYS(tgkill), SCMP_A0_64(SCMP_CMP_EQ, static_cast<scmp_datum_t>(::getpid())));

  // Libraries look for files that they can do without: there are none.
  filter.add(SCMP_ACT_ERRNO(ENOENT), SCMP_SYS(open));
  filter.add(SCMP_ACT_ERRNO(ENOENT), SCMP_SYS(openat));
  return filter;
}

// Standard descriptors that are files or terminals become ends of nothing. Not closed: the next socket would take the number, and a
// message to stderr would go to the provider.
void replace_standard() {
  Fd in = make_pipe().first, out = make_pipe().second;
  for (int standard : {0, 1, 2})
    if (!is_stream(standard)) check(::dup2(standard == 0 ? in.get() : out.get(), standard), "replace descriptor {}", standard);
}

}  // namespace

void hide() {
  check(::prctl(PR_SET_DUMPABLE, 0, 0, 0, 0), "become undumpable");
  rlimit none{0, 0};
  check(::setrlimit(RLIMIT_CORE, &none), "forbid cores");
}

void close_others(int socket) {
  unsigned kept = static_cast<unsigned>(socket);
  if (kept > 3) check(::close_range(3, kept - 1, 0), "close what was inherited");
  check(::close_range(kept + 1, ~0u, 0), "close what was inherited");
}

void lock_in(const Lock& lock) {
  bool root = ::geteuid() == 0;
  if (!lock.empty_root.empty()) {
    bool moved = ::chroot(lock.empty_root.c_str()) == 0;
    if (!moved && errno != EPERM) fail(errno, "make {} the root", lock.empty_root);  // an ordinary user may not
    if (moved) check(::chdir("/"), "go to the new root");
  }
  if (root) become_nobody(lock);
  drop_capabilities();
  hide();  // a change of user has undone it
  check(::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "forbid new privileges");
  Filter filter = client_of_the_network();
  replace_standard();  // after all that may have to be said to the user
  filter.load();       // last: it forbids most of the above
}

}  // namespace runner::agent::model
