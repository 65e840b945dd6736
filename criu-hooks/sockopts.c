// Loaded into CRIU, for Linux 6.16 and later: there SO_PASSCRED and SO_PASSSEC are for local sockets only, and CRIU up to 4.1 asks every
// socket for them and gives up when one has none. The answer that it got before was 0.
#include <errno.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

int getsockopt(int fd, int level, int name, void *value, socklen_t *size) {
  long result = syscall(SYS_getsockopt, fd, level, name, value, size);
  if (result == -1 && errno == EOPNOTSUPP && level == SOL_SOCKET && (name == SO_PASSCRED || name == SO_PASSSEC) && *size >= sizeof(int)) {
    *(int *)value = 0;
    *size = sizeof(int);
    return 0;
  }
  return (int)result;
}
