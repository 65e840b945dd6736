// What the kernel's tables of sockets say about ports.
#include <doctest/doctest.h>

#include "runner/supervise/ports.h"

using namespace runner::supervise;

TEST_CASE("of a table of sockets those that listen are told, with addresses as people write them") {
  const std::string header = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n";
  const std::string rest = " 00000000:00000000 00:00000000 00000000  1000        0 ";
  CHECK(parse_listening(header, false).empty());
  CHECK(parse_listening(header + "   0: 0100007F:1F90 00000000:0000 0A" + rest + "4711 1 0000000000000000 100 0 0 10 0\n" +
                            "   1: 00000000:0BB8 00000000:0000 0A" + rest + "4712 1\n" +
                            "   2: 0100007F:1F90 0100007F:C001 01" + rest + "4713 1\n",  // a connection
                        false) == std::vector<Listening>{{"127.0.0.1", 8080, 4711}, {"0.0.0.0", 3000, 4712}});
  const std::string nobody = "00000000000000000000000000000000:0000";
  CHECK(parse_listening(header + "   0: 00000000000000000000000001000000:1388 " + nobody + " 0A" + rest + "5 1\n" +
                            "   1: 00000000000000000000000000000000:0050 " + nobody + " 0A" + rest + "6 1\n",
                        true) == std::vector<Listening>{{"::1", 5000, 5}, {"::", 80, 6}});
  CHECK(parse_listening("nonsense\n 0: 1:2\n\n", false).empty());
}
