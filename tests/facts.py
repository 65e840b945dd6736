"""What all tests that print a line a fact share: where the build is, the facts, and how it ends. Needs root."""
import os, sys, threading

repo = os.path.realpath(os.path.join(os.path.dirname(__file__), ".."))
build = os.path.realpath(os.path.join(repo, os.environ.get("RUNNER_BUILD", "build")))
if os.geteuid():
    print("SKIPPED: root")
    sys.exit(0)
failed = 0
lock = threading.Lock()


def expect(what, good, told=""):
    global failed
    with lock:
        failed += not good
        print(f"{'ok' if good else 'FAILED'}: {what}" + ("" if good else f"\n    {str(told)[:1500]}"), flush=True)


def finish():
    sys.exit(1 if failed else 0)
