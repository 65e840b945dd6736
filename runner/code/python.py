# The driver of a Python context (protocol.md). It is sent over the channel and runs in the sandbox's own interpreter, with nothing but the
# standard library: `channel` and `requests`, the channel as a file, are there already. It guards against mistakes of a cell and not against
# malice: both run as one process, and all that it says is data to those who listen.
import ast
import base64
import builtins
import fcntl
import inspect
import io
import json
import linecache
import os
import signal
import sys
import traceback
import types

MOST_RESULTS = 256
MOST_BYTES = 8 << 20  # of all results of a cell
MOST_JSON = 1 << 20  # of one application/json
MOST_TEXT = 1 << 20  # of one text/plain
MOST_TRACEBACK = 256 << 10
DEEPEST = 90  # lists and objects within each other, in one application/json
REPRESENTATIONS = {
    "_repr_html_": "text/html",
    "_repr_markdown_": "text/markdown",
    "_repr_latex_": "text/latex",
    "_repr_svg_": "image/svg+xml",
    "_repr_json_": "application/json",
    "_repr_png_": "image/png",
    "_repr_jpeg_": "image/jpeg",
}


def cut(text, most):
    return text if len(text) <= most else text[:most] + f"\n... ({len(text) - most} characters more)"


def encode(value):
    # Half a surrogate pair (a file name that is no UTF-8) is no JSON to others.
    return json.dumps(value, ensure_ascii=False).encode("utf-8", "replace")


class Results:
    """What a cell displays, within limits. What is left out is named."""

    def __init__(self):
        self.bundles, self.bytes, self.dropped = [], 0, 0

    def add(self, bundle):
        if len(self.bundles) == MOST_RESULTS:
            self.dropped += 1
            return
        kept, left_out = {}, {}
        for mime, value in bundle.items():
            if mime == "text/plain" and len(value) > MOST_TEXT:
                left_out[mime], value = len(value), value[:MOST_TEXT]
            size = len(encode([mime, value]))
            if self.bytes + size > MOST_BYTES:
                left_out[mime] = size
                continue
            self.bytes += size
            kept[mime] = value
        if left_out:
            kept["truncated"] = left_out
        self.bundles.append(kept)


def whole_number(digits):
    if len(digits) > 300:
        raise ValueError("no double holds it, and many readers of JSON know nothing larger")
    return int(digits)


def shallow(value, levels=DEEPEST):
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return levels > 0 and all(shallow(each, levels - 1) for each in inner)


def as_json(value):
    try:
        text = json.dumps(value, allow_nan=False)
        plain = json.loads(text, parse_int=whole_number) if len(text) <= MOST_JSON else None
    except (TypeError, ValueError, RecursionError):
        return None
    return plain if shallow(plain) else None


def bundle_of(value):
    bundle = {}
    for name, mime in REPRESENTATIONS.items():
        method = getattr(value, name, None)
        if not callable(method) or isinstance(value, type):  # a class has the methods too, for its instances
            continue
        try:
            shown = method()
        except Exception:
            traceback.print_exc()  # the others may do better
            continue
        if isinstance(shown, tuple):  # with metadata, as Jupyter has it
            shown = shown[0]
        if isinstance(shown, (bytes, bytearray)):
            shown = base64.b64encode(shown).decode()
        if mime == "application/json":
            shown = as_json(shown)
        elif shown is not None and not isinstance(shown, str):
            continue
        if shown is not None:
            bundle[mime] = shown
    if isinstance(value, (dict, list)) and "application/json" not in bundle:
        plain = as_json(value)
        if plain is not None:
            bundle["application/json"] = plain
    bundle["text/plain"] = repr(value)
    return bundle


class Context:
    def __init__(self):
        self.pid = os.getpid()
        self.count = 0
        self.running = False
        self.results = Results()
        self.loop = None
        # A cell may close 0, 1 and 2, and the channel's own number; each cell begins with the streams that the context began with.
        self.streams = [fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 200) for fd in (0, 1, 2)]
        self.module = types.ModuleType("__main__")
        self.names = self.module.__dict__
        self.names["__builtins__"] = builtins
        self.names["display"] = self.display
        sys.modules["__main__"] = self.module
        sys.argv = [""]
        sys.path.insert(0, "")
        self.restore()

    def display(self, *values):
        for value in values:
            self.results.add(bundle_of(value))

    def restore(self):
        signal.signal(signal.SIGINT, self.interrupted)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
        for fd, kept in enumerate(self.streams):
            os.dup2(kept, fd)
        if sys.stdin is None or sys.stdin.closed:
            sys.stdin = sys.__stdin__ = open(0, closefd=False)
        for fd, name in ((1, "stdout"), (2, "stderr")):
            if getattr(sys, name) is None or getattr(sys, name).closed:
                fresh = open(fd, "w", closefd=False, errors="backslashreplace")
                setattr(sys, name, fresh)
                setattr(sys, f"__{name}__", fresh)
            if isinstance(getattr(sys, name), io.TextIOWrapper):
                getattr(sys, name).reconfigure(line_buffering=True)

    def interrupted(self, number, frame):
        if self.running:
            raise KeyboardInterrupt

    def execute(self, source, name):
        tree = ast.parse(source, name)
        last = tree.body.pop() if tree.body and isinstance(tree.body[-1], ast.Expr) else None
        self.evaluate(compile(tree, name, "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT))
        if last is not None:
            value = self.evaluate(compile(ast.Expression(last.value), name, "eval", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT))
            if value is not None:
                builtins._ = value
                self.display(value)
        self.show_figures()

    def evaluate(self, code):
        if not code.co_flags & inspect.CO_COROUTINE:
            return eval(code, self.names)
        import asyncio

        if self.loop is None or self.loop.is_closed():
            self.loop = asyncio.new_event_loop()
        asyncio.set_event_loop(self.loop)
        task = self.loop.create_task(eval(code, self.names))
        try:
            return self.loop.run_until_complete(task)
        except KeyboardInterrupt:
            task.cancel()  # or it would go on beneath the next cell
            raise

    def show_figures(self):
        plots = sys.modules.get("matplotlib.pyplot")
        for number in plots.get_fignums() if plots else ():
            figure, image = plots.figure(number), io.BytesIO()
            figure.savefig(image, format="png")
            self.results.add({"image/png": base64.b64encode(image.getvalue()).decode(), "text/plain": repr(figure)})
        if plots:
            plots.close("all")

    def run(self, source):
        self.count += 1
        name = f"<cell {self.count}>"
        linecache.cache[name] = (len(source), None, source.splitlines(True), name)  # tracebacks show its lines
        self.results = Results()
        self.restore()
        answer = {"status": "ok"}
        try:
            try:
                self.running = True
                self.execute(source, name)
            finally:
                self.running = False
        except SystemExit as exit:
            if exit.code not in (None, 0):
                answer = self.failed(exit, name)
        except BaseException as error:
            answer = self.failed(error, name)
        self.flush()
        if os.getpid() != self.pid:
            os._exit(0)  # a fork of the cell's that came to its end: there is one who answers, and it is not this
        self.restore()
        return {**answer, "results": self.results.bundles, "dropped": self.results.dropped}

    @staticmethod
    def failed(error, name):
        at = error.__traceback__
        while at is not None and not at.tb_frame.f_code.co_filename.startswith("<cell "):
            at = at.tb_next
        try:
            described = traceback.TracebackException(type(error), error, at)
            described.stack[:] = [frame for frame in described.stack if frame.filename != "<runner>"]
            text, message = cut("".join(described.format()), MOST_TRACEBACK), cut(str(error), MOST_TRACEBACK)
        except BaseException as second:  # its own __str__ raises
            text = message = f"({type(second).__name__} while the error was described)"
        return {
            "status": "interrupted" if isinstance(error, KeyboardInterrupt) else "error",
            "error": {"name": type(error).__name__, "message": message, "traceback": text},
        }

    @staticmethod
    def flush():
        for stream in (sys.stdout, sys.stderr):
            try:
                stream.flush()
            except Exception:
                pass  # the cell has put something else there, or closed it


def answer_all():
    context = Context()
    for line in requests:
        try:
            request = json.loads(line)
            identity = request["id"]
        except (ValueError, TypeError, KeyError):
            continue  # typed by somebody who attached to us
        if "code" in request:
            answer = {"done": identity, **context.run(request["code"])}
        else:
            answer = {"ready": identity, "language": "python", "version": sys.version.split()[0], "cells": context.count}
        channel.sendall(encode(answer) + b"\n")


answer_all()
