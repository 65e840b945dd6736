"""Generators of Python in a session that is restored or forked: they go on from the snapshot's state in every copy, and so would give the
same numbers. Put this folder on PYTHONPATH. `random` and `numpy.random` are seeded anew when the file that RUNNER_EPOCH_FILE names has changed;
that is looked at before each call of `random`, which costs a microsecond. A program that seeds for itself is seeded anew as well.
os.urandom(), `secrets` and uuid4() are the kernel's, and differ anyway. For generators of its own a program asks changed()."""
import functools
import importlib.machinery
import os
import sys

_path = os.environ.get("RUNNER_EPOCH_FILE")


def _read():
    try:
        with open(_path, "rb") as file:
            return file.read()
    except OSError:
        return b""


def _mark():
    try:
        info = os.stat(_path)
        return info.st_dev, info.st_ino, info.st_ctime_ns
    except OSError:
        return None


_seen, _epoch = (_mark(), _read()) if _path else (None, b"")


def changed():
    """Whether this process goes on from a snapshot since it was asked last; then the known generators have been seeded."""
    global _seen, _epoch
    mark = _mark()
    if mark == _seen:
        return False
    _seen, before, _epoch = mark, _epoch, _read()
    if _epoch == before:
        return False
    if "random" in sys.modules:
        sys.modules["random"]._inst.seed()
    if "numpy.random" in sys.modules:
        sys.modules["numpy.random"].seed()
    return True


def _checked(function):
    @functools.wraps(function)
    def call(*arguments, **named):
        changed()
        return function(*arguments, **named)

    return call


def _wrap(module):
    for each in getattr(module, "__all__", []):
        value = getattr(module, each, None)
        if callable(value) and not isinstance(value, type):
            setattr(module, each, _checked(value))


class _Finder:
    def find_spec(self, name, path, target=None):
        if name not in ("random", "numpy.random"):
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, path, target)
        if spec is None or spec.loader is None:
            return spec
        execute = spec.loader.exec_module

        def exec_module(module):
            execute(module)
            _wrap(module)

        spec.loader.exec_module = exec_module
        return spec


if _path:
    for _name in ("random", "numpy.random"):
        if _name in sys.modules:
            _wrap(sys.modules[_name])
    sys.meta_path.insert(0, _Finder())
