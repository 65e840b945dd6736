#include "isolate/network.h"

#include <net/if.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include <cstring>

#include "isolate/sys/error.h"
#include "isolate/sys/fd.h"

namespace isolate {

void bring_up_loopback() {
  sys::Fd socket(sys::check(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0), "make a socket to set up lo"));
  ifreq request{};
  std::strcpy(request.ifr_name, "lo");
  sys::check(::ioctl(socket.get(), SIOCGIFFLAGS, &request), "read the flags of lo");
  request.ifr_flags |= IFF_UP | IFF_RUNNING;
  sys::check(::ioctl(socket.get(), SIOCSIFFLAGS, &request), "bring up lo");
}

}  // namespace isolate
