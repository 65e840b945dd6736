// System calls by number, in all the ways that this processor knows; sockets of every kind; single uses of allowed calls.
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>

#include "tests/probe/attack.h"

namespace attack {
namespace {

// Arguments that no call takes, so that one which gets through does nothing: it answers EFAULT, EBADF or EINVAL.
long call(long number) {
  // These do, or would answer the very errno by which they are denied.
  if (number == SYS_splice) return ::syscall(number, -1L, 0L, -1L, 0L, 1L, 0L);
  if (number == SYS_tee || number == SYS_vmsplice) return ::syscall(number, -1L, -1L, 1L, 0L);
  if (number == SYS_modify_ldt) return ::syscall(number, 0L, 0L, 0L);
  return ::syscall(number, -1L, -1L, -1L, -1L, -1L, -1L);
}

// NUMBER...: "NUMBER=errno"
void by_number(const Words& words) {
  for (const std::string& word : words) {
    long n = std::stol(word);
    say(word, in_child([&] { return call(n); }));
  }
}

// The same calls as an x32 program makes them.
void by_x32(const Words& words) {
  for (const std::string& word : words) {
    long n = std::stol(word);
    say(word, in_child([&] { return ::syscall(n | 0x40000000L, -1L, -1L, -1L, -1L, -1L, -1L); }));
  }
}

long int80(long number, long a, long b, long c) {
  long result;
  asm volatile("int $0x80" : "=a"(result) : "a"(number), "b"(a), "c"(b), "d"(c) : "memory", "r8", "r9", "r10", "r11");
  if (result >= 0 || result < -4095) return result;
  errno = static_cast<int>(-result);
  return -1;
}

// i386 numbers. getpid is the control of the control: the door itself.
void by_int80(const Words&) {
  struct {
    const char* name;
    long number, a;
  } const calls[] = {{"getpid", 20, 0},
                     {"ptrace", 26, 0},
                     {"mount", 21, -1},
                     {"socketcall", 102, 1},
                     {"unshare", 310, 0x10000000},
                     {"keyctl", 288, 0},
                     {"bpf", 357, -1},
                     {"process_vm_readv", 347, -1},
                     {"clone", 120, 0x10000011},
                     {"socket", 359, 38},
                     {"modify_ldt", 123, 0}};
  for (const auto& c : calls) say(c.name, in_child([&] { return int80(c.number, c.a, 0, 0); }));
}

// Every family, type and protocol: one line with all that opened, "family/type/protocol".
void sockets(const Words&) {
  std::string open;
  for (int family = 0; family < 64; ++family) {
    std::vector<int> protocols{0};
    if (family == AF_INET || family == AF_INET6)
      for (int p = 1; p < 264; ++p) protocols.push_back(p);
    if (family == AF_NETLINK)
      for (int p = 1; p < 32; ++p) protocols.push_back(p);
    if (family == AF_PACKET) protocols.push_back(0x300);
    for (int type : {1, 2, 3, 4, 5, 6, 10})
      for (int protocol : protocols) {
        int fd = ::socket(family, type, protocol);
        if (fd < 0) continue;
        ::close(fd);
        open += (open.empty() ? "" : " ") + std::to_string(family) + "/" + std::to_string(type) + "/" +
                std::to_string(protocol);
      }
  }
  say("open", open);
  int ends[2];
  std::string pairs;
  for (int family = 0; family < 64; ++family)
    for (int type : {1, 2, 3, 4, 5, 6, 10})
      if (::socketpair(family, type, 0, ends) == 0) {
        ::close(ends[0]);
        ::close(ends[1]);
        pairs += (pairs.empty() ? "" : " ") + std::to_string(family) + "/" + std::to_string(type);
      }
  say("pairs", pairs);
  // The kernel reads 32 bits of each argument, a filter may compare 64.
  say("alg-with-junk", outcome(::syscall(SYS_socket, 38L | 1L << 32, 5L, 0L)));
  say("packet-with-junk", outcome(::syscall(SYS_socket, 17L | 1L << 40, 3L | 1L << 33, 0L)));
  say("raw-with-junk", outcome(::syscall(SYS_socket, 2L, 3L | 1L << 32, 1L)));
  say("mptcp-with-junk", outcome(::syscall(SYS_socket, 2L, 1L, 262L | 1L << 32)));
}

// Uses that the second filter refuses.
void arguments(const Words&) {
  say("tiocsti", in_child([] {
        int master = ::posix_openpt(O_RDWR | O_NOCTTY);
        if (master < 0 || ::grantpt(master) || ::unlockpt(master)) return -1L;
        ::setsid();
        int slave = ::open(::ptsname(master), O_RDWR);
        if (slave < 0 || ::ioctl(slave, TIOCSCTTY, 0)) return -1L;
        return static_cast<long>(::ioctl(slave, TIOCSTI, "x"));
      }));
  say("tiocsti-with-junk", in_child([] {
        int master = ::posix_openpt(O_RDWR | O_NOCTTY);
        if (master < 0 || ::unlockpt(master)) return -1L;
        ::setsid();
        int slave = ::open(::ptsname(master), O_RDWR);
        ::ioctl(slave, TIOCSCTTY, 0);
        return ::syscall(SYS_ioctl, static_cast<long>(slave), static_cast<long>(TIOCSTI) | 1L << 32, "x");
      }));
  say("tiocsetd", in_child([] {
        int discipline = 0;
        int master = ::posix_openpt(O_RDWR | O_NOCTTY);
        return static_cast<long>(::ioctl(master, TIOCSETD, &discipline));
      }));
  say("udp-encap", in_child([] {
        int kind = 2;  // UDP_ENCAP_ESPINUDP
        return static_cast<long>(::setsockopt(::socket(AF_INET, SOCK_DGRAM, 0), IPPROTO_UDP, 100, &kind, sizeof kind));
      }));
  say("udp-encap-6", in_child([] {
        int kind = 2;
        return static_cast<long>(::setsockopt(::socket(AF_INET6, SOCK_DGRAM, 0), IPPROTO_UDP, 100, &kind, sizeof kind));
      }));
  say("tcp-ulp", in_child([] {
        return static_cast<long>(::setsockopt(::socket(AF_INET, SOCK_STREAM, 0), IPPROTO_TCP, 31, "tls", 3));
      }));
  say("set-mm", in_child([] { return static_cast<long>(::prctl(35, 1, 0, 0, 0)); }));
  say("memory-merge", in_child([] { return static_cast<long>(::prctl(67, 0, 0, 0, 0)); }));
  say("mergeable", in_child([] {
        void* page = ::mmap(nullptr, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        return static_cast<long>(::madvise(page, 4096, 12));
      }));
  say("listener", in_child([] {
        struct {
          unsigned short code;
          unsigned char jt, jf;
          unsigned k;
        } allow{6, 0, 0, 0x7fff0000};
        struct {
          unsigned short size;
          void* program;
        } filter{1, &allow};
        ::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
        return ::syscall(SYS_seccomp, 1L, 8L, &filter);
      }));
  say("personality", in_child([] { return ::syscall(SYS_personality, 0x0400000L); }));  // READ_IMPLIES_EXEC
  for (auto [name, flag] : {std::pair{"clone-newuser", CLONE_NEWUSER},
                            {"clone-newns", CLONE_NEWNS},
                            {"clone-newnet", CLONE_NEWNET},
                            {"clone-newpid", CLONE_NEWPID},
                            {"clone-newipc", CLONE_NEWIPC},
                            {"clone-newuts", CLONE_NEWUTS},
                            {"clone-newcgroup", CLONE_NEWCGROUP}})
    say(name, in_child([&] {
          long pid = ::syscall(SYS_clone, static_cast<long>(flag | SIGCHLD), 0L, 0L, 0L, 0L);
          if (pid == 0) ::_exit(0);
          return pid;
        }));
}

const Attacks kAttacks{{"calls", by_number, "NUMBER...: with arguments that no call takes"},
                       {"x32", by_x32, "NUMBER...: the same with the x32 bit"},
                       {"int80", by_int80, "i386 calls from a 64-bit program"},
                       {"sockets", sockets, "every family, type and protocol"},
                       {"arguments", arguments, "forbidden uses of allowed calls"}};

}  // namespace
}  // namespace attack
