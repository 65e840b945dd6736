// Files of a session that goes on from a snapshot.
#include <doctest/doctest.h>

#include "tests/snapshot/support.h"

using namespace tests;

TEST_SUITE("snapshot files") {
  TEST_CASE("files that were written, changed and deleted are so in the other, and what either does then is its own") {
    SKIP_UNLESS(is_root(), "root");
    Twins twins({"sleep", "300"}, {"--user", "0"});
    CHECK(sh(twins.one, "cd /workspace && mkdir -p a/b && echo text >a/b/f && ln -s f a/b/link && ln a/b/f a/hard && chmod 640 a/b/f && mkfifo pipe && "
                        "truncate -s 3M hole && echo tmp >/tmp/t && echo shm >/dev/shm/s && echo 'with space' >'/tmp/a b'") == "");
    CHECK(sh(twins.one, "rm /etc/nsswitch.conf; echo changed >>/etc/passwd; mkdir /opt/new; chmod 750 /etc/ssl; rm -r /home; echo $?") == "0");
    twins.part();
    twins.both("cd /workspace && find . ! -type d -printf '%p %y %m %n %s %u %g\\n' | sort; cat a/b/link /tmp/t /dev/shm/s '/tmp/a b'; stat -c %h a/hard; ls /etc | sort; tail -1 /etc/passwd; ls -d /opt/new");
    CHECK(sh(twins.other, "cat /dev/shm/s /tmp/t /workspace/a/hard") == "shm\ntmp\ntext");
    CHECK(sh(twins.other, "test -e /etc/nsswitch.conf || test -e /home || echo gone") == "gone");
    CHECK(sh(twins.other, "echo other >/workspace/mine; rm /tmp/t; echo more >>/workspace/a/b/f; echo 2 >/dev/shm/s; rm /workspace/pipe; echo done; chmod 700 /workspace; stat -c %a /etc/ssl") == "done\n750");
    CHECK(sh(twins.one, "ls /workspace; cat /tmp/t /workspace/a/hard /dev/shm/s") == "a\nhole\npipe\ntmp\ntext\nshm");
    CHECK(sh(twins.other, "cat /workspace/a/b/f") == "text\nmore");  // its other name is another file from then on: overlayfs(8), hard links
    // What deletes a file that is in a layer below.
    CHECK(sh(twins.other, "rm -rf /workspace/a; ls /workspace") == "hole\nmine");
  }

  TEST_CASE("files that are open go on, with their offsets, also when they were deleted") {
    SKIP_UNLESS(is_root() && have("python3"), "root and /usr/bin/python3");
    Twins twins({"python3", "-u", "-c",
                 "import os, time, mmap\n"
                 "gone=open('/workspace/gone','w+b'); gone.write(b'G'*3000000); gone.flush(); os.unlink('/workspace/gone')\n"
                 "shm=open('/dev/shm/gone','w+b'); shm.write(b'in memory'); shm.flush(); os.unlink('/dev/shm/gone')\n"
                 "kept=open('/tmp/kept','w+'); kept.write('one'); kept.flush()\n"
                 "m=os.memfd_create('m'); os.write(m,b'memfd')\n"
                 "shared=mmap.mmap(-1,4096); shared[:5]=b'share'\n"
                 "r,w=os.pipe(); os.write(w,b'in the pipe')\n"
                 "print('ready')\n"
                 "while not os.path.exists('/tmp/go'): time.sleep(0.05)\n"
                 "kept.write('two'); kept.flush(); gone.seek(0); shm.seek(0); os.lseek(m,0,0)\n"
                 "print(f\"{len(gone.read())} {shm.read()} {open('/tmp/kept').read()} {os.read(m,9)} {shared[:5]} {os.read(r,99)}\")\n"
                 "time.sleep(300)\n"});
    REQUIRE(runner({"wait", "--line", "ready", twins.one.id}).code == 0);
    twins.part();
    for (const Box* box : {&twins.one, &twins.other}) {
      CHECK(sh(*box, "touch /tmp/go; ls /workspace; ls /dev/shm") == "");
      CHECK(eventually([&] { return runner({"logs", box->id}).out.find("3000000 b'in memory' onetwo b'memfd' b'share' b'in the pipe'") != std::string::npos; }, 3000));
    }
    CHECK(sh(twins.one, "find /workspace /tmp /dev/shm -type f | sort") == "/tmp/go\n/tmp/kept");  // and no trace of how it was done
    CHECK(sh(twins.other, "find /workspace /tmp /dev/shm -type f | sort") == "/tmp/go\n/tmp/kept");
  }

  TEST_CASE("a hole of a terabyte in a file costs a snapshot nothing") {
    SKIP_UNLESS(is_root(), "root");
    Twins twins;
    REQUIRE(sh(twins.one, "truncate -s 1T /tmp/vast && printf end >>/tmp/vast") == "");
    Ran ran = runner({"snapshot", "create", "--leave-running", "--name", twins.shot.name, twins.one.id}, {.timeout_ms = 15'000});
    REQUIRE_MESSAGE(ran.code == 0, ran.err);
    CHECK(runner({"snapshot", "verify", "--full", twins.shot.name}, {.timeout_ms = 15'000}).code == 0);
    REQUIRE(twins.restore().code == 0);
    CHECK(sh(twins.other, "tail -c 3 /tmp/vast; stat -c ' %s' /tmp/vast") == "end 1099511627779");
  }

  TEST_CASE("locks, watches, timers and events of the kernel are kept") {
    SKIP_UNLESS(is_root() && have("python3"), "root and /usr/bin/python3");
    Twins twins({"python3", "-u", "-c",
                 "import fcntl, os, select, signal, socket, subprocess, threading, time\n"
                 "lock=open('/tmp/lock','w'); fcntl.flock(lock, fcntl.LOCK_EX)\n"
                 "record=open('/tmp/record','w'); fcntl.lockf(record, fcntl.LOCK_EX)\n"
                 "a,b=socket.socketpair(); a.send(b'waiting')\n"
                 "ep=select.epoll(); ep.register(b, select.EPOLLIN)\n"
                 "s=socket.socket(socket.AF_UNIX); s.bind('/tmp/sock'); s.listen()\n"
                 "signal.signal(signal.SIGALRM, lambda *x: print('alarm')); signal.setitimer(signal.ITIMER_REAL, 3)\n"
                 "child=subprocess.Popen(['sleep','2']); threading.Thread(target=lambda: print(f'child {child.wait()}')).start()\n"
                 "print('ready')\n"
                 "while not os.path.exists('/tmp/go'): time.sleep(0.05)\n"
                 "print(f'{ep.poll(1)==[(b.fileno(), 1)]} {b.recv(9)}')\n"
                 "c,_=s.accept(); print(f'accepted {c.recv(9)}'); time.sleep(300)\n"});
    REQUIRE(runner({"wait", "--line", "ready", twins.one.id}).code == 0);
    twins.part();
    for (const Box* box : {&twins.one, &twins.other}) {
      CHECK(sh(*box, "flock -n /tmp/lock true; echo $?; python3 -c 'import fcntl\nfcntl.lockf(open(\"/tmp/record\",\"w\"), fcntl.LOCK_EX|fcntl.LOCK_NB)' 2>&1 | tail -1 | cut -c1-15") ==
            "1\nBlockingIOError");
      CHECK(sh(*box, "touch /tmp/go; python3 -c 'import socket\ns=socket.socket(socket.AF_UNIX); s.connect(\"/tmp/sock\"); s.send(b\"hello\")'") == "");
      for (const char* text : {"alarm", "child 0", "True b'waiting'", "accepted b'hello'"}) {
        CAPTURE(text);
        CHECK(eventually([&] { return runner({"logs", box->id}).out.find(text) != std::string::npos; }));
      }
    }
  }
}
