// port.opened: told when somebody inside begins to listen, with who it is.
#include <doctest/doctest.h>
#include <unistd.h>

#include <algorithm>

#include "tests/kernel/live.h"

using namespace tests;
using nlohmann::json;

namespace {

std::vector<json> opened(const Box& box) {
  std::vector<json> all;
  for (const json& event : events_of(runner({"logs", box.id}).out))
    if (event["type"] == "port.opened") all.push_back(event["data"]);
  return all;
}

bool has_python() { return ::access("/usr/bin/python3", X_OK) == 0; }

std::string listen_on(const std::string& host, int port, const std::string& then = "time.sleep(60)") {
  std::string family = host.find(':') == std::string::npos ? "AF_INET" : "AF_INET6";
  return "import socket,time,os,sys\ns=socket.socket(socket." + family + ")\ns.setsockopt(socket.SOL_SOCKET,socket.SO_REUSEADDR,1)\ns.bind(('" + host +
         "'," + std::to_string(port) + "))\ns.listen()\n" + then + "\n";
}

}  // namespace

TEST_SUITE("ports") {
  TEST_CASE("the program's port and those of services are told with process, pid inside and call") {
    SKIP_UNLESS(is_root() && has_python(), "root, and python3");
    Away s({}, {"sh", "-c", "sleep 0.4; exec python3 -c \"" + listen_on("127.0.0.1", 4001) + "\""});
    CHECK(opened(s.box).empty());
    REQUIRE(eventually([&] { return opened(s.box).size() == 1; }));
    json first = opened(s.box)[0];
    CHECK(first == json{{"port", 4001}, {"address", "127.0.0.1"}, {"protocol", "tcp"}, {"pid", 2}, {"process", "python3"}});

    REQUIRE(runner({"exec", "-d", "--service", "web", s.box.id, "--", "python3", "-c", listen_on("::1", 4002)}).code == 0);
    REQUIRE(runner({"wait", "--port", "4002", s.box.id}).code == 0);
    REQUIRE(eventually([&] { return opened(s.box).size() == 2; }, 1000));
    json second = opened(s.box)[1];
    CHECK(second["address"] == "::1");
    CHECK(second["port"] == 4002);
    CHECK(second["call"] == "web");
    CHECK(second["process"] == "python3");
    CHECK(second["pid"].get<int>() > 2);
    CHECK(runner({"logs", "--verify", s.box.id}).code == 0);
  }

  TEST_CASE("a port is told once as long as it is open, and again when it is opened again") {
    SKIP_UNLESS(is_root() && has_python(), "root, and python3");
    Away s;
    REQUIRE(runner({"exec", s.box.id, "sleep", "0.2"}).code == 0);
    auto once = [&] { return runner({"exec", s.box.id, "--", "python3", "-c", listen_on("0.0.0.0", 4003, "time.sleep(0.5)")}).code; };
    REQUIRE(once() == 0);
    CHECK(opened(s.box).size() == 1);
    REQUIRE(runner({"exec", "-d", s.box.id, "--", "python3", "-c", listen_on("0.0.0.0", 4004)}).code == 0);
    CHECK(eventually([&] { return opened(s.box).size() == 2; }));
    REQUIRE(once() == 0);
    REQUIRE(opened(s.box).size() == 3);
    CHECK(opened(s.box)[2]["port"] == 4003);
    CHECK(opened(s.box)[2]["address"] == "0.0.0.0");
    CHECK(opened(s.box)[2]["call"] == "c4");
  }

  TEST_CASE("many ports at once are all told, and who opens and closes them without end keeps nobody from working") {
    SKIP_UNLESS(is_root() && has_python(), "root, and python3");
    Away s;
    REQUIRE(runner({"exec", s.box.id, "sleep", "0.2"}).code == 0);
    std::string many = "import socket,time\nall=[socket.create_server(('127.0.0.1',p)) for p in range(5000,5060)]\ntime.sleep(1)\n";
    REQUIRE(runner({"exec", s.box.id, "--", "python3", "-c", many}).code == 0);
    std::vector<json> told = opened(s.box);
    REQUIRE(told.size() == 60);
    std::vector<bool> seen(60);
    for (const json& each : told) seen[each["port"].get<std::size_t>() - 5000] = true;
    CHECK(std::find(seen.begin(), seen.end(), false) == seen.end());

    std::string endless = "import socket\nwhile True: socket.create_server(('127.0.0.1',0)).close()\n";
    REQUIRE(runner({"exec", "-d", s.box.id, "--", "python3", "-c", endless}).code == 0);
    for (int i = 0; i < 10; ++i) CHECK(runner({"exec", s.box.id, "true"}, {.timeout_ms = 5000}).code == 0);
    CHECK(opened(s.box).size() < 120);
  }
}
