// Servers of a session that goes on from a snapshot: clients inside stay connected, and others come in.
#include <doctest/doctest.h>

#include "tests/snapshot/support.h"

using namespace tests;

namespace {

constexpr const char* kServer =
    "let n = 0; require('http').createServer((q, r) => r.end(`n=${++n}\\n`)).listen(8080, '127.0.0.1', () => console.log('up'))";
// One connection for all; tells of every new one.
constexpr const char* kClient =
    "const http = require('http'); const agent = new http.Agent({keepAlive: true, maxSockets: 1}); let sockets = 0;"
    "const ask = () => { const q = http.get({port: 8080, host: '127.0.0.1', agent}, r => { let s = ''; r.on('data', d => s += d);"
    " r.on('end', () => { console.log(`sockets=${sockets} ${s.trim()}`); setTimeout(ask, 100); }); });"
    " q.on('socket', s => { if (!s.seen) { s.seen = true; ++sockets; } }); q.on('error', e => { console.log('error ' + e.code); setTimeout(ask, 100); }); }; ask();";

}  // namespace

TEST_SUITE("snapshot server") {
  TEST_CASE("a Node server keeps the connections of clients inside, and `expose` reaches it") {
    SKIP_UNLESS(is_root() && have("node"), "root and /usr/bin/node");
    Twins twins;
    twins.serve("web", {"node", "-e", kServer});
    REQUIRE(runner({"wait", "--port", "8080", twins.one.id}).code == 0);
    twins.serve("client", {"node", "-e", kClient});
    REQUIRE(eventually([&] { return written_by(twins.one, "client").find("n=5\n") != std::string::npos; }));
    twins.part();
    for (const Box* box : {&twins.one, &twins.other}) {
      CAPTURE(box->id);
      CHECK(eventually([&] { return runner({"logs", box->id}).out.find("sockets=1 n=20\\n") != std::string::npos; }));
      std::string log = runner({"logs", box->id}).out;
      CHECK(log.find("sockets=2") == std::string::npos);
      CHECK(log.find("\"text\":\"error") == std::string::npos);
      Folder folder;
      Live relay(runner_argv({"expose", "--unix", folder / "sock", box->id, "8080"}));
      REQUIRE(relay.await("listening"));
      Ran ran = run({"curl", "-s", "--max-time", "5", "--unix-socket", folder / "sock", "http://x/"});
      CHECK(ran.out.find("n=") == 0);
    }
  }

  TEST_CASE("a connection through `expose` does not hinder a snapshot, and the first session keeps it") {
    SKIP_UNLESS(is_root() && have("python3"), "root and /usr/bin/python3");
    Twins twins({"python3", "-u", "-c",
                 "import socket, threading\ns=socket.create_server(('127.0.0.1',5000)); print('up')\n"
                 "def echo(c):\n try:\n  while (b:=c.recv(100)): c.sendall(b.upper())\n  print('eof')\n except OSError as e: print('closed', e.errno)\n"
                 "while True:\n c,_=s.accept(); threading.Thread(target=echo,args=(c,),daemon=True).start()\n"});
    REQUIRE(runner({"wait", "--port", "5000", twins.one.id}).code == 0);
    Folder folder;
    Live relay(runner_argv({"expose", "--unix", folder / "sock", twins.one.id, "5000"}));
    REQUIRE(relay.await("listening"));
    Live client({"python3", "-u", "-c",
                 "import socket,sys\nc=socket.socket(socket.AF_UNIX); c.connect(sys.argv[1])\n"
                 "for line in sys.stdin:\n c.sendall(line.encode()); print(c.recv(99).decode())\n", folder / "sock"});
    client.send("one\n");
    REQUIRE(client.await("ONE"));
    twins.part();
    client.send("two\n");
    CHECK(client.await("TWO"));
    Live other(runner_argv({"expose", "--unix", folder / "other", twins.other.id, "5000"}));
    REQUIRE(other.await("listening"));
    CHECK(run({"python3", "-c", "import socket,sys\nc=socket.socket(socket.AF_UNIX); c.connect(sys.argv[1]); c.sendall(b'new'); print(c.recv(9).decode())", folder / "other"}).out == "NEW\n");
  }
}
