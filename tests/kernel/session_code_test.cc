// `runner code`: interpreters of a session that remember, and cells that try to be more than a cell.
#include <doctest/doctest.h>
#include <fmt/format.h>
#include <signal.h>

#include "tests/kernel/live.h"

using namespace tests;
using nlohmann::json;

namespace {

Args concat(Args list, const Args& more) {
  list.insert(list.end(), more.begin(), more.end());
  return list;
}

// A session that sleeps, with contexts in it.
struct Notebook : Away {
  Notebook() : Away({}, {"/probe", "sleep", "300"}) {}
  Args arguments(const Args& flags, const std::string& cell = {}) const {
    Args all = concat({"code"}, flags);
    if (!cell.empty()) all = concat(all, {"-c", cell});
    return concat(all, {box.id});
  }
  Ran code(const Args& flags, const std::string& cell = {}, const How& how = {}) const { return runner(arguments(flags, cell), how); }
  Ran python(const std::string& cell, const Args& flags = {}) const { return code(concat({"--context", "py", "-l", "python"}, flags), cell); }
  Ran node(const std::string& cell, const Args& flags = {}) const { return code(concat({"--context", "js", "-l", "javascript"}, flags), cell); }
  std::string log() const { return read(data_dir() + "/sessions/" + box.id + "/events.ndjson"); }
};

bool has(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }
bool have(const char* program) { return run({"sh", "-c", fmt::format("command -v /usr/bin/{}", program)}).code == 0; }
json finished(const Ran& ran) {
  Events events = events_of(ran.out);
  return events.empty() || events.back()["type"] != "tool.call.finished" ? json() : events.back()["data"];
}

}  // namespace

#define PYTHON_OR_SKIP SKIP_UNLESS(is_root() && have("python3"), "root and /usr/bin/python3")
#define NODE_OR_SKIP SKIP_UNLESS(is_root() && have("node"), "root and /usr/bin/node")

TEST_SUITE("session code, python") {
  TEST_CASE("variables, imports and functions persist, and the last expression is shown") {
    PYTHON_OR_SKIP;
    Notebook book;
    CHECK(book.python("import math\nx = 40\ndef add(n):\n    return x + n").out == "");
    Ran ran = book.python("print('twice'); add(2)");
    CHECK(ran.out == "twice\n42\n");
    CHECK(ran.code == 0);
    CHECK(book.python("math.floor(2.5), _").out == "(2, 42)\n");
    CHECK(book.python("None").out == "");
  }

  TEST_CASE("a cell comes from the command line, from a file or from standard input") {
    PYTHON_OR_SKIP;
    Notebook book;
    Folder folder;
    folder.write("cell.py", "'file'");
    CHECK(book.code({"-l", "python"}, "'flag'").out == "'flag'\n");
    CHECK(book.code({}, {}, {.input = "'stdin'"}).out == "'stdin'\n");
    CHECK(runner({"code", book.box.id, folder / "cell.py"}).out == "'file'\n");
    CHECK(runner({"code", book.box.id, "-"}, {.input = "'dash'"}).out == "'dash'\n");
    CHECK(has(book.code({}, "'\xff'").err, "not UTF-8"));
    CHECK(book.code({}, {}, {.input = "x = '" + std::string(3 << 20, 'x') + "'\nlen(x)"}).out == "3145728\n");
    CHECK(has(book.code({}, {}, {.input = std::string(5 << 20, '#')}).err, "at most 4194304 bytes"));
  }

  TEST_CASE("both streams arrive, each in order, and before the result") {
    PYTHON_OR_SKIP;
    Notebook book;
    Ran ran = book.python("import sys\nfor i in range(3):\n    print('out', i)\n    print('err', i, file=sys.stderr)\nprint('no newline', end='')\n7");
    CHECK(ran.out == "out 0\nout 1\nout 2\nno newline\n7\n");
    CHECK(ran.err == "err 0\nerr 1\nerr 2\n");
    for (int i = 0; i < 20; ++i) {
      CHECK(book.python(fmt::format("print('x' * 300000); {}", i)).out == std::string(300000, 'x') + fmt::format("\n{}\n", i));
      CHECK(book.python(fmt::format("import os; os.system('echo child'); {}", i)).out == fmt::format("child\n{}\n", i));
    }
  }

  TEST_CASE("a hundred thousand lines arrive, each once and in order") {
    PYTHON_OR_SKIP;
    Notebook book;
    std::string expected;
    for (int i = 0; i < 100000; ++i) expected += fmt::format("{}\n", i);
    CHECK(book.python("for i in range(100000): print(i)").out == expected);
  }

  TEST_CASE("--events prints the cell as events, with a MIME bundle for each result") {
    PYTHON_OR_SKIP;
    Notebook book;
    Ran ran = book.python(
        "class Shown:\n"
        "    def __repr__(self): return 'plain'\n"
        "    def _repr_html_(self): return '<table></table>'\n"
        "    def _repr_png_(self): return b'\\x89PNG'\n"
        "print('text')\ndisplay({'a': [1, 2.5, None]})\nShown()", {"--events"});
    Events events = events_of(ran.out);
    REQUIRE(events.size() >= 3);
    CHECK(events.front()["type"] == "tool.call.started");
    CHECK(events.front()["data"]["fresh"] == true);
    CHECK(events.front()["data"]["language"] == "python");
    CHECK(stdio_text(events) == "text\n");
    for (std::size_t i = 0; i < events.size(); ++i) CHECK(events[i]["sequence"] == fmt::format("{:014}", i + 1));
    json end = finished(ran);
    CHECK(end["ok"] == true);
    CHECK(end["call"] == events.front()["data"]["call"]);
    CHECK(end["results"] == json::parse(R"([{"application/json": {"a": [1, 2.5, null]}, "text/plain": "{'a': [1, 2.5, None]}"},
      {"text/html": "<table></table>", "image/png": "iVBORw==", "text/plain": "plain"}])"));
    CHECK(has(book.log(), "\"call\":\"code-py\",\"text\":\"text\\n\""));  // and the session's log has what it printed
  }

  TEST_CASE("open figures of matplotlib become PNG") {
    PYTHON_OR_SKIP;
    Notebook book;  // with one that is enough to be taken for it
    book.python("import sys, types, os\nplots = types.ModuleType('matplotlib.pyplot')\nclass Figure:\n"
                "    def savefig(self, to, format): to.write(b'\\x89PNG ' + os.environ['MPLBACKEND'].encode())\n"
                "    def __repr__(self): return '<Figure>'\n"
                "opened = [1]\nplots.get_fignums = lambda: opened\nplots.figure = lambda n: Figure()\nplots.close = lambda what: opened.clear()\n"
                "sys.modules['matplotlib.pyplot'] = plots");
    CHECK(book.python("opened.append(1)\nopened.pop()", {"--events"}).code == 0);
    CHECK(finished(book.python("opened.append(2)", {"--events"}))["results"] == json::parse(R"([{"image/png": "iVBORyBBZ2c=", "text/plain": "<Figure>"}])"));
    CHECK(finished(book.python("pass", {"--events"}))["results"] == json::array());
  }

  TEST_CASE("an exception is told with the cell's own lines, and the context goes on") {
    PYTHON_OR_SKIP;
    Notebook book;
    Ran ran = book.python("def deep():\n    raise ValueError('bad')\ndeep()");
    CHECK(ran.code == 1);
    CHECK(ran.out == "");
    CHECK(ran.err == "Traceback (most recent call last):\n  File \"<cell 1>\", line 3, in <module>\n    deep()\n"
                     "  File \"<cell 1>\", line 2, in deep\n    raise ValueError('bad')\nValueError: bad\n");
    ran = book.python("x = 1\ny = (", {"--events"});
    CHECK(finished(ran)["error"]["name"] == "SyntaxError");
    CHECK(has(finished(ran)["error"]["traceback"], "line 2"));
    CHECK(finished(ran)["result"] == "exception");
    CHECK(book.python("import sys; sys.exit(3)").code == 1);
    CHECK(book.python("sys.exit()").code == 0);
    CHECK(book.python("class Bad(Exception):\n    def __str__(self): 1/0\nraise Bad()").code == 1);
    CHECK(book.python("def forever(): forever()\nforever()", {"--events"}).code == 1);
    CHECK(book.python("await __import__('asyncio').sleep(0, 'awaited')").out == "'awaited'\n");
  }

  TEST_CASE("a cell is interrupted, by a signal or from another shell, with what it has started, and the context goes on") {
    PYTHON_OR_SKIP;
    Notebook book;
    book.python("kept = 'kept'");
    for (const char* cell : {"print('on')\nwhile True: pass", "print('on')\nimport subprocess; subprocess.run(['sleep', '67.25'])"}) {
      Live by_signal(runner_argv(book.arguments({"--context", "py"}, cell)));
      REQUIRE(by_signal.await("on"));
      by_signal.signal(SIGINT);
      CHECK(by_signal.wait() == 130);
      CHECK(has(by_signal.err, "KeyboardInterrupt"));
      CHECK_FALSE(has(by_signal.err, "<runner>"));
      Live from_afar(runner_argv(book.arguments({"--context", "py"}, cell)));
      REQUIRE(from_afar.await("on"));
      CHECK(book.code({"--context", "py", "--interrupt"}).code == 0);
      CHECK(from_afar.wait() == 130);
    }
    CHECK(eventually([] { return run({"pgrep", "-f", "^sleep 67.25"}).out.empty(); }));
    CHECK(book.code({"--context", "py", "--interrupt"}).code == 0);  // nothing runs: nothing happens
    CHECK(book.python("kept").out == "'kept'\n");
  }

  TEST_CASE("a cell that takes too long is interrupted, and killed with its context when it does not heed that") {
    PYTHON_OR_SKIP;
    Notebook book;
    book.python("kept = 'kept'");
    Ran ran = book.python("while True: pass", {"--timeout", "200ms", "--events"});
    CHECK(ran.code == 124);
    CHECK(finished(ran)["result"] == "timeout");
    CHECK_FALSE(finished(ran).contains("context_lost"));
    CHECK(book.python("kept").out == "'kept'\n");
    ran = book.python("import signal, subprocess\nsignal.signal(signal.SIGINT, signal.SIG_IGN)\nsubprocess.Popen(['setsid', 'sleep', '68.25'])\nwhile True: pass",
                      {"--timeout", "200ms", "--events"});
    CHECK(ran.code == 124);
    CHECK(finished(ran)["context_lost"] == true);
    CHECK(has(ran.err, "is lost"));
    CHECK(eventually([] { return run({"pgrep", "-f", "^sleep 68.25"}).out.empty(); }));
    CHECK(has(book.code({"--context", "py"}, "kept").err, "there is no context py any more"));
    CHECK(has(book.python("kept").err, "NameError"));
  }

  TEST_CASE("a cell that does not heed its interruption is left alone by a second signal, and goes on") {
    PYTHON_OR_SKIP;
    Notebook book;
    book.python("import time");
    Live stubborn(runner_argv(book.arguments({"--context", "py"}, "print('on')\nfor i in range(10**9):\n    try: time.sleep(60)\n    except KeyboardInterrupt: print('no')")));
    REQUIRE(stubborn.await("on"));
    stubborn.signal(SIGINT);
    REQUIRE(stubborn.await("no"));
    stubborn.signal(SIGTERM);
    CHECK(stubborn.wait() == 128 + SIGTERM);
    CHECK(has(stubborn.err, "goes on in context py"));
    CHECK(book.code({"--context", "py", "--kill"}).code == 0);
  }

  TEST_CASE("contexts are apart, run at once, are listed, reset and killed") {
    PYTHON_OR_SKIP;
    Notebook book;
    book.code({"--context", "a", "-l", "python"}, "x = 'a'");
    book.code({"--context", "b", "-l", "python"}, "x = 'b'");
    Live busy(runner_argv(book.arguments({"--context", "a"}, "print('on'); import time; time.sleep(100)")));
    REQUIRE(busy.await("on"));
    CHECK(book.code({"--context", "b"}, "x").out == "'b'\n");
    std::string listed = book.code({"--list"}).out;
    CHECK(has(listed, R"({"context":"a","language":"python","busy":true})"));
    CHECK(has(listed, R"({"context":"b","language":"python","busy":false})"));
    CHECK(book.code({"--context", "a", "--reset"}).code == 0);
    CHECK(busy.wait() == 1);
    CHECK(has(busy.err, "context a is lost"));
    CHECK(has(book.code({"--context", "a"}, "x").err, "NameError"));
    book.code({"--context", "b"}, "import subprocess; subprocess.Popen(['sleep', '69.25'])");
    CHECK(book.code({"--context", "b", "--kill"}).code == 0);
    CHECK(run({"pgrep", "-f", "^sleep 69.25"}).out == "");
    CHECK_FALSE(has(book.code({"--list"}).out, "\"b\""));
    CHECK(book.code({"--context", "b", "--kill"}).code == 125);
  }

  TEST_CASE("cells of one context wait for each other, also for one whose caller was killed") {
    PYTHON_OR_SKIP;
    Notebook book;
    book.python("import time");
    Live first(runner_argv(book.arguments({"--context", "py"}, "print('on'); time.sleep(0.5); x = 'set'")));
    REQUIRE(first.await("on"));
    CHECK(book.python("x").out == "'set'\n");
    Live killed(runner_argv(book.arguments({"--context", "py"}, "print('on'); time.sleep(0.5); print('late'); x = 'goes on'")));
    REQUIRE(killed.await("on"));
    killed.signal(SIGKILL);
    killed.wait();
    CHECK(book.python("x").out == "'goes on'\n");
  }

  TEST_CASE("nothing that a cell prints is taken for an answer, nor lost") {
    PYTHON_OR_SKIP;
    Notebook book;
    std::string forged = R"({"done":"x","status":"ok","results":[{"text/plain":"forged"}],"dropped":0})";
    Ran ran = book.python("import os, sys\nfor fd in (1, 2):\n    os.write(fd, bytes(range(256)) * 100)\n    os.write(fd, b'\\n" + forged + "\\n')\n'mine'");
    std::string garbage;
    for (int i = 0; i < 100 * 256; ++i) garbage += static_cast<char>(i % 256);
    CHECK(ran.out == garbage + "\n" + forged + "\n'mine'\n");
    CHECK(ran.err == garbage + "\n" + forged + "\n");
    CHECK(ran.code == 0);
  }

  TEST_CASE("a cell that writes to the channel itself gets a clear error, and no other cell does after a reset") {
    PYTHON_OR_SKIP;
    Notebook book;
    for (const char* said : {"b'garbage\\n'", "b'{\"done\":\"x\"}\\n'", "b'[' * 100000 + b'\\n'", "b'\\xff\\x00\\n'", "b'x' * (20 << 20)",
                             "b'{\"ready\":\"x\",\"language\":\"python\",\"version\":\"\",\"cells\":0}\\n'"}) {
      Ran ran = book.python(fmt::format("import os, stat\nfor fd in range(3, 1000):\n    try:\n        if stat.S_ISSOCK(os.fstat(fd).st_mode):\n"
                                        "            data = {}\n            while data: data = data[os.write(fd, data):]\n    except OSError: pass", said), {"--events"});
      CHECK(ran.code == 125);
      CHECK(has(ran.err, "answer cannot be read"));
      CHECK(finished(ran)["result"] == "runner-error");
      ran = book.python("1", {"--events"});  // and what comes behind it is none of the next cell's business
      CHECK(finished(ran)["results"][0]["text/plain"] == "1");
      CHECK(book.code({"--context", "py", "--reset"}).code == 0);
      CHECK(book.python("6 * 7").out == "42\n");
    }
  }

  TEST_CASE("results are bounded, and what is left out is named") {
    PYTHON_OR_SKIP;
    Notebook book;
    json end = finished(book.python("'x' * (3 << 20)", {"--events"}));
    CHECK(end["results"][0]["text/plain"].get<std::string>().size() == 1 << 20);
    CHECK(end["results"][0]["truncated"]["text/plain"] == (3 << 20) + 2);
    end = finished(book.python("class Big:\n    def _repr_png_(self): return bytes(9 << 20)\nBig()", {"--events"}));
    CHECK(end["results"][0]["truncated"].contains("image/png"));
    CHECK_FALSE(end["results"][0].contains("image/png"));
    end = finished(book.python("for i in range(1000): display(i)", {"--events"}));
    CHECK(end["results"].size() == 256);
    CHECK(end["dropped"] == 744);
    for (const char* odd : {"raise ValueError('\\udcff')", "[10 ** 400, '\\ud800']", "deep = []\nfor i in range(500): deep = [deep]\ndeep", "{'x': float('nan')}"})
      CHECK_MESSAGE(book.python(odd).code != 125, odd);
    CHECK(has(book.python("for i in range(300): display(i)").err, "44 results were beyond the limit"));
  }

  TEST_CASE("closed streams, forks and floods of children leave the context as it is") {
    PYTHON_OR_SKIP;
    Notebook book;
    CHECK(book.python("import os, sys\nfor fd in range(3): os.close(fd)").code == 0);
    CHECK(book.python("print('back'); print('here', file=sys.stderr)").out == "back\n");
    CHECK(book.python("sys.stdout.close()").code == 0);
    CHECK(book.python("print('again')").out == "again\n");
    CHECK(book.python("input()", {"--events"}).code == 1);  // there is nothing to read, and the request is not it
    CHECK(book.python("if os.fork() == 0: x = 'child'\nelse: x = 'parent'; os.wait()").code == 0);
    CHECK(book.python("x").out == "'parent'\n");
    book.python("import subprocess; noise = subprocess.Popen(['yes'])");
    CHECK(book.python("noise.kill(); 'heard'").out.ends_with("'heard'\n"));
  }

  TEST_CASE("a cell that ends its interpreter loses the context, and says how") {
    PYTHON_OR_SKIP;
    Notebook book;
    Ran ran = book.python("print('last words', flush=True); import os; os._exit(3)", {"--events"});
    CHECK(ran.code == 1);
    CHECK(stdio_text(events_of(ran.out)) == "last words\n");
    CHECK(finished(ran)["ok"] == false);
    CHECK(finished(ran)["context_lost"] == true);
    CHECK(finished(ran)["result"] == "exit-code");
    CHECK(has(ran.err, "exit status 3"));
    CHECK(finished(book.python("import os; os.kill(os.getpid(), 11)", {"--events"}))["result"] == "signal");
    CHECK(book.python("'new'").out == "'new'\n");
  }

  TEST_CASE("a module of the workspace does not take the place of one that the driver needs") {
    PYTHON_OR_SKIP;
    Notebook book;
    CHECK(runner({"exec", book.box.id, "--", "sh", "-c", "for m in json ast socket traceback own; do echo name = \\'mine\\' >$m.py; done"}).code == 0);
    CHECK(book.python("import own; own.name").out == "'mine'\n");
  }
}

TEST_SUITE("session code, javascript") {
  TEST_CASE("what a cell declares and requires persists, may be declared again, and the last expression is shown") {
    NODE_OR_SKIP;
    Notebook book;
    CHECK(book.node("const fs = require('fs'); let x = 40; class Point { constructor() { this.x = 1; } } function add(n) { return x + n; }").out == "");
    CHECK(book.node("console.log('twice'); add(2)").out == "twice\n42\n");
    CHECK(book.node("const fs = require('fs'); class Point {}; [new Point(), fs.existsSync('/usr')]").out == "[ Point {}, true ]\n");
    CHECK(book.node("const late = await new Promise(done => setTimeout(done, 20, 'awaited')); late").out == "'awaited'\n");
    CHECK(book.node("late + (await load('path')).sep").out == "'awaited/'\n");
    CHECK(book.node("// what it needs\nimport fs, { readFileSync as read } from 'node:fs';\nimport * as path from \"node:path\"\nimport 'node:os'\nread === fs.readFileSync").out == "true\n");
    CHECK(book.node("path.join('a', 'b')").out == "'a/b'\n");  // it stays
    CHECK(book.node("import {\n  sep,\n} from 'path'\nthrow new Error(sep)").err.find(".js:4:") != std::string::npos);
    CHECK(book.node("import nothing from 'no-such-module'").err.find("no-such-module") != std::string::npos);
    CHECK(book.node("undefined").out == "");
  }

  TEST_CASE("output comes whole and before the result, results as MIME bundles") {
    NODE_OR_SKIP;
    Notebook book;
    std::string expected;
    for (int i = 0; i < 100000; ++i) expected += fmt::format("{}\n", i);
    CHECK(book.node("for (let i = 0; i < 100000; i++) console.log(i); 'end'").out == expected + "'end'\n");
    Ran ran = book.node("display({[Symbol.for('Jupyter.display')]: () => ({'text/html': '<b>', 'image/png': Buffer.from('png'), 'text/plain': 'p'})}); ({a: [1, null]})",
                        {"--events"});
    CHECK(finished(ran)["results"][0]["text/html"] == "<b>");
    CHECK(finished(ran)["results"][0]["image/png"] == "cG5n");
    CHECK(finished(ran)["results"][1] == json::parse(R"({"application/json": {"a": [1, null]}, "text/plain": "{ a: [ 1, null ] }"})"));
    CHECK(book.node("{a: 1}").out == "{ a: 1 }\n");
    CHECK(book.node("{ let b = 2; b + 1 }").out == "3\n");
    for (const char* odd : {"throw new Error('\\ud800')", "({'\\ud800': '\\\\ud800'})", "let deep = []; for (let i = 0; i < 500; i++) deep = [deep]; deep", "[1n]"})
      CHECK_MESSAGE(book.node(odd).code != 125, odd);
  }

  TEST_CASE("an error is told with the cell's own frames, and neither it nor process.exit ends the context") {
    NODE_OR_SKIP;
    Notebook book;
    Ran ran = book.node("function f() { throw new TypeError('bad'); }\nf()");
    CHECK(ran.code == 1);
    CHECK(ran.err == "TypeError: bad\n    at f (cell-1.js:1:22)\n    at cell-1.js:2:1\n");
    CHECK(has(book.node("1 +").err, "SyntaxError"));
    CHECK(book.node("process.exit(3)").code == 1);
    CHECK(book.node("process.exit()").code == 0);
    CHECK(book.node("throw null").code == 1);
    CHECK(book.node("setTimeout(() => { throw new Error('later'); }, 1); 1").code == 0);
    CHECK(book.node("await new Promise(done => setTimeout(done, 50)); f.name").out == "'f'\n");
  }

  TEST_CASE("a busy loop and a promise that never settles are interrupted, and the context goes on") {
    NODE_OR_SKIP;
    Notebook book;
    book.node("var kept = 'kept'");
    for (const char* cell : {"while (true) {}", "await new Promise(() => {})", "require('child_process').execSync('sleep 70')"}) {
      Ran ran = book.node(cell, {"--timeout", "300ms", "--events"});
      CHECK(ran.code == 124);
      CHECK_FALSE(finished(ran).contains("context_lost"));
    }
    CHECK(book.node("kept").out == "'kept'\n");
    CHECK(finished(book.node("await 0; while (true) {}", {"--timeout", "100ms", "--events"}))["context_lost"] == true);  // out of vm's reach
    Ran ran = book.node("process.kill(process.pid, 'SIGKILL')");
    CHECK(has(ran.err, "context js is lost"));
  }
}

TEST_SUITE("session code") {
  TEST_CASE("what is wrong with a request is said") {
    PYTHON_OR_SKIP;
    Notebook book;
    book.python("1");
    auto wrong = [&](const Args& flags, const std::string& text) {
      Ran ran = book.code(flags, "1");
      CHECK(ran.code == 125);
      CHECK_MESSAGE(has(ran.err, text), ran.err);
    };
    wrong({"--context", "new"}, "--lang python or javascript begins one");
    wrong({"--context", "py", "-l", "javascript"}, "the context py is python, not javascript");
    wrong({"-l", "perl"}, "--lang perl: must be python or javascript");
    wrong({"--context", "../x", "-l", "python"}, "--context ../x");
    wrong({"--timeout", "soon"}, "--timeout 'soon' is no limit");
    wrong({"--list", "--kill"}, "exclude each other");
    wrong({"--context", "none", "--interrupt"}, "there is no context none");
    CHECK(has(runner({"code", "-c", "1", "nobody"}).err, "there is no session nobody"));
    wrong({"--context", "big", "-l", "python", "-m", "lots"}, "--memory 'lots' is no limit");
    CHECK(has(runner({"exec", "-d", "--service", "code-py", book.box.id, "--", "cat"}).err, "such names are of `runner code`"));
    CHECK(runner({"pause", book.box.id}).code == 0);
    wrong({"--context", "py"}, "is paused, not running");
    CHECK(runner({"resume", book.box.id}).code == 0);
    CHECK(book.python("'thawed'").out == "'thawed'\n");
    runner({"kill", book.box.id, "KILL"});
    CHECK(eventually([&] { return book.box.status() == "stopped"; }));
    wrong({"--context", "py"}, "is stopped, not running");
  }

  TEST_CASE("a sandbox without the interpreter is told so, with 127") {
    SKIP_UNLESS(is_root(), "root");
    Rootfs root;
    Away bare({"--rootfs", root.rootfs()}, {"/probe", "sleep", "60"});
    Ran ran = runner({"code", "-l", "python", "-c", "1", bare.box.id});
    CHECK(ran.code == 127);
    CHECK(has(ran.err, "python3"));
    CHECK(has(ran.err, "this sandbox has none"));
    CHECK(runner({"code", "--list", bare.box.id}).out == "");
  }

  TEST_CASE("looking on at an interpreter shows what its cells print, and nothing of the channel") {
    PYTHON_OR_SKIP;
    Notebook book;
    book.python("1");
    Live viewer(runner_argv({"attach", "--no-stdin", book.box.id, "code-py"}));
    CHECK(book.python("print('seen'); 'result'").out == "seen\n'result'\n");
    CHECK(viewer.await("seen\n"));
    CHECK(book.code({"--context", "py", "--kill"}).code == 0);
    viewer.wait();
    CHECK(viewer.out == "seen\n");
  }
}

// Also in the VM, on cgroup v2.
TEST_SUITE("limits") {
  TEST_CASE("a context that meets its own memory limit dies of it, and the session does not") {
    SKIP_UNLESS(is_root() && has_controller("memory") && have("python3"), "root, the memory controller and /usr/bin/python3");
    Notebook book;
    Ran ran = book.python("b = bytearray(200 << 20)", {"-m", "64m", "--events"});
    CHECK(ran.code == 1);
    CHECK(finished(ran)["result"] == "oom-kill");
    CHECK(finished(ran)["context_lost"] == true);
    CHECK(book.python("len(bytearray(200 << 20))").out == "209715200\n");  // without a limit of its own it has the session's
  }
}
