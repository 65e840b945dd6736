"""What the tests of jobs share: a folder and a data directory of their own, runner in it, projects with a script of answers, and facts."""
import atexit, json, os, shutil, subprocess, sys, tempfile

sys.path.insert(0, os.path.join(os.path.dirname(__file__), ".."))
from facts import *

has_criu = os.path.exists(build + "/criu/bin/criu") or shutil.which("criu")
work = tempfile.mkdtemp(prefix="runner-jobs-")
os.chmod(work, 0o755)
env = dict(os.environ, RUNNER_DATA=work + "/data")
env.pop("ANTHROPIC_API_KEY", None)


def runner(*words, stdin=None, **more):
    return subprocess.run([build + "/runner", "--root", work + "/root", *words], env=dict(env, **more), input=stdin, capture_output=True, text=True, timeout=120)


def events(text):
    return [json.loads(line) for line in text.splitlines()]


def types(text):
    return [e["type"] for e in events(text)]


def of_type(text, kind):
    return [e["data"] for e in events(text) if e["type"] == kind]


def project(name, toml, script=None):
    folder = f"{work}/{name}"
    os.makedirs(folder + "/work", exist_ok=True)
    if script is not None:
        with open(folder + "/answers.json", "w") as file:
            json.dump({"version": 1, "answers": script}, file)
        toml = 'schema = 1\nmodel = "m"\n[provider]\nname = "script"\nfile = "answers.json"\n' + toml
    with open(folder + "/experts.toml", "w") as file:
        file.write(toml)
    os.chown(folder + "/work", 1000, 1000)
    return folder


def call(name, **arguments):
    return {"name": name, "arguments": arguments}


def run(folder, expert, *words, query="do it", **more):
    return runner("job", "run", *words, "-c", folder + "/experts.toml", "-w", folder + "/work", expert, query, **more)


def left_behind():
    return runner("list", "-q").stdout.split() + runner("snapshot", "ls", "-q").stdout.split()


EXPERT = '[experts.e]\ninstruction = "Work."\n'
SERVER = """
import json, sys
calls = 0
for line in sys.stdin:
    message = json.loads(line)
    method, result = message.get("method"), None
    if method == "initialize":
        result = {"protocolVersion": "2025-06-18", "capabilities": {"tools": {}}, "serverInfo": {"name": "count", "version": "1"}}
    elif method == "tools/list":
        result = {"tools": [{"name": "count", "description": "Counts.", "inputSchema": {"type": "object", "additionalProperties": False}}]}
    elif method == "tools/call":
        calls += 1
        result = {"content": [{"type": "text", "text": f"call {calls}"}]}
    if "id" in message:
        answer = {"result": result} if result is not None else {"error": {"code": -32601, "message": "no such method"}}
        print(json.dumps({"jsonrpc": "2.0", "id": message["id"], **answer}), flush=True)
"""
NAME = iter(f"job{os.getpid()}-{n}" for n in range(1000))


def clean_up():
    for job in runner("job", "list", "-q").stdout.split():
        runner("job", "rm", "-f", job)
    shutil.rmtree(work, ignore_errors=True)


atexit.register(clean_up)
