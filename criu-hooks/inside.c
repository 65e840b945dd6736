// Loaded into CRIU, which is another program.
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netlink.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

// For Linux 6.16 and later: there SO_PASSCRED and SO_PASSSEC are for local sockets only, and CRIU up to 4.1 asks every socket for them and
// gives up when one has none. The answer that it got before was 0.
int getsockopt(int fd, int level, int name, void *value, socklen_t *size) {
  long result = syscall(SYS_getsockopt, fd, level, name, value, size);
  if (result == -1 && errno == EOPNOTSUPP && level == SOL_SOCKET && (name == SO_PASSCRED || name == SO_PASSSEC) && *size >= sizeof(int)) {
    *(int *)value = 0;
    *size = sizeof(int);
    return 0;
  }
  return (int)result;
}

// Of the network namespace that this process is in.
static int tracks_no_connection(void) {
  char count[16];
  int fd = open("/proc/sys/net/netfilter/nf_conntrack_count", O_RDONLY | O_CLOEXEC);
  if (fd == -1) return 0;
  ssize_t size = read(fd, count, sizeof count);
  close(fd);
  return size == 2 && count[0] == '0' && count[1] == '\n';
}

static int asks_for_connections(const struct msghdr *message) {
  const struct sockaddr_nl *to = message->msg_name;
  const struct iovec *first = message->msg_iov;
  if (!to || message->msg_namelen != sizeof *to || to->nl_family != AF_NETLINK || message->msg_iovlen != 1 || first->iov_len < sizeof(struct nlmsghdr)) return 0;
  const struct nlmsghdr *request = first->iov_base;
  return NFNL_SUBSYS_ID(request->nlmsg_type) == NFNL_SUBSYS_CTNETLINK && (request->nlmsg_flags & NLM_F_DUMP) == NLM_F_DUMP;
}

// The table of tracked connections is one for the whole host, a quarter of a million buckets on a machine as this: to look in it for those of
// a namespace takes 7 ms, and CRIU looks twice, while the processes stand still. Where there are none it is asked for nothing, which is
// acknowledged as the end of a list.
ssize_t sendmsg(int fd, const struct msghdr *message, int flags) {
  if (!asks_for_connections(message) || !tracks_no_connection()) return syscall(SYS_sendmsg, fd, message, flags);
  struct nlmsghdr nothing = *(const struct nlmsghdr *)message->msg_iov->iov_base;
  nothing.nlmsg_len = sizeof nothing;
  nothing.nlmsg_type = NLMSG_NOOP;
  nothing.nlmsg_flags = NLM_F_REQUEST | NLM_F_ACK;
  struct iovec part = {&nothing, sizeof nothing};
  struct msghdr instead = *message;
  instead.msg_iov = &part;
  return syscall(SYS_sendmsg, fd, &instead, flags);
}
