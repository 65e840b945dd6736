// Memory as criu-hooks/pages.c reads it back: every byte, whatever it is mapped of, and shared or not.
#include <doctest/doctest.h>

#include "tests/snapshot/containers.h"
#include "tests/snapshot/support.h"

using namespace tests;

namespace {

// Full huge pages; pages with holes between them; memory that may only be read; a changed copy of a file; what a child shares, but for one page
// that it has changed. For each line: the line, what parent and child have, and how many threads the parent is.
const char* const kProgram = R"(
import ctypes, hashlib, mmap, os, random, sys
MB = 1 << 20
random.seed(7)
full = mmap.mmap(-1, 9 * MB, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS); full[:] = random.randbytes(9 * MB)
holes = mmap.mmap(-1, 24 * MB, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
for at in range(0, 24 * MB, 3 * 4096): holes[at:at + 8] = random.randbytes(8)
with open('/file', 'wb') as f: f.write(random.randbytes(8 * MB))
file = mmap.mmap(os.open('/file', os.O_RDWR), 8 * MB, flags=mmap.MAP_PRIVATE)
file[MB:7 * MB] = random.randbytes(6 * MB)
fixed = mmap.mmap(-1, 5 * MB, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS); fixed[:] = random.randbytes(5 * MB)
address = ctypes.addressof(ctypes.c_char.from_buffer(fixed))
assert ctypes.CDLL(None).mprotect(ctypes.c_void_p(address), ctypes.c_size_t(5 * MB), 1) == 0
def seen(): return ' '.join(hashlib.sha256(memoryview(each)).hexdigest()[:12] for each in (full, holes, file, fixed))
if len(sys.argv) > 1: open('/proc/sys/kernel/ns_last_pid', 'w').write(str(int(open('/proc/sys/kernel/pid_max').read()) - 2))
ask, asked = os.pipe(); answer, answered = os.pipe()
if os.fork() == 0:
  full[5 * MB] ^= 1
  while os.read(ask, 1): os.write(answered, (seen() + ' ' + str(os.getpid())).encode())
  os._exit(0)
print('ready=1', flush=True)
for line in sys.stdin:
  os.write(asked, b'x')
  print(line.strip(), seen(), os.read(answer, 1000).decode(), len(os.listdir('/proc/self/task')), line.strip() + '.end', flush=True)
)";

std::string said(const std::string& text, const std::string& word) {
  std::size_t at = text.find(word + " ") + word.size();
  return text.substr(at, text.find(word + ".end") - at);
}

}  // namespace

TEST_SUITE("container checkpoint") {
  TEST_CASE("memory of every kind is as it was, also when a process has the last number of the pid namespace") {
    SKIP_UNLESS(is_root() && have("python3"), "root and /usr/bin/python3");
    for (bool last : {false, true}) {
      Counter one(Args{"/usr/bin/python3", "-c", kProgram, "last"}, [&](Bundle& bundle) {
        if (!last) bundle.config["process"]["args"].erase(3);
        for (const char* set : {"bounding", "effective", "permitted"}) bundle.config["process"]["capabilities"][set] = {"CAP_SYS_ADMIN"};
        for (std::string folder : {"/usr", "/lib", "/lib64"}) bundle.config["mounts"].push_back({{"destination", folder}, {"source", folder}, {"type", "bind"}, {"options", {"bind", "ro"}}});
        bundle.config["root"]["readonly"] = false;
        bundle.config["linux"]["readonlyPaths"] = nlohmann::json::array();
        return Args();
      });
      one.live.send("before\n");
      REQUIRE(one.live.await("before.end"));
      std::string before = said(one.live.out, "before");
      CHECK(before.size() > 100);
      REQUIRE(one.put_away());
      Live then(one.restoring(one.box.id), {.env = {{"RUNNER_CRIU_LOG", "4"}}});
      then.send("after\n");
      REQUIRE(then.await("after.end"));
      CHECK(said(then.out, "after") == before);
      CHECK(then.err.find("(parent 1)") != std::string::npos);  // the empty images were found
      CHECK(runner({"delete", "-f", one.box.id}).code == 0);
      CHECK(remains_of(one.box.id) == "");
    }
  }
}
