"""What the tests of runc's command line share: bundles of busybox in a folder of their own, runner in it, and facts. RUNTIME=/usr/sbin/runc asks a peer."""
import atexit, json, os, shutil, subprocess, sys, tempfile

sys.path.insert(0, os.path.join(os.path.dirname(__file__), ".."))
from facts import *

program = os.environ.get("RUNTIME", build + "/runner")
if not shutil.which("busybox"):
    print("SKIPPED: busybox")
    sys.exit(0)
work = tempfile.mkdtemp(prefix="runner-oci-")


def runtime(*words, stdin=None, **more):
    return subprocess.run([program, "--root", work + "/root", *words], input=stdin, capture_output=True, text=True, timeout=60, **more)


def said(ran):
    return (ran.stdout + ran.stderr).strip()


os.makedirs(work + "/rootfs/bin")
for folder in ("proc", "dev", "sys", "tmp", "etc"):
    os.makedirs(f"{work}/rootfs/{folder}")
shutil.copy(shutil.which("busybox"), work + "/rootfs/bin/busybox")
for applet in ("sh", "cat", "sleep", "true", "echo", "mkdir", "grep", "id", "env", "uname", "date", "unshare", "mount"):
    os.symlink("busybox", f"{work}/rootfs/bin/{applet}")
names = iter(f"oci{os.getpid()}-{n}" for n in range(1000))


def bundle(*argv, change=None, terminal=False):
    """A folder whose config.json runs this; an id."""
    name = next(names)
    folder = f"{work}/{name}"
    os.makedirs(folder)
    runtime("spec", "-b", folder)
    with open(folder + "/config.json") as file:
        config = json.load(file)
    config["root"] = {"path": work + "/rootfs", "readonly": False}
    config["process"].update(args=list(argv), terminal=terminal)
    config["linux"]["cgroupsPath"] = "/runner-oci-test/" + name
    if change:
        change(config)
    with open(folder + "/config.json", "w") as file:
        json.dump(config, file)
    return folder, name


def run(*argv, change=None, **more):
    folder, name = bundle(*argv, change=change)
    return runtime("run", "-b", folder, name, **more)


def started(*argv, change=None, flags=()):
    folder, name = bundle(*argv, change=change)
    # Its streams are the container's: files, which nobody waits for.
    with open(folder + "/out", "w") as out:
        code = subprocess.run([program, "--root", work + "/root", "run", "-d", *flags, "-b", folder, name], stdin=subprocess.DEVNULL, stdout=out, stderr=out, timeout=60).returncode
    if code:
        raise RuntimeError(open(folder + "/out").read())
    return name


def state(name):
    return json.loads(runtime("state", name).stdout or "{}")


def group(name, controller, file):
    """The file of a cgroup, by its name on v1 or on v2, whichever this host has. `file` is (v1, v2)."""
    for path in (f"/sys/fs/cgroup/{controller}/runner-oci-test/{name}/{file[0]}", f"/sys/fs/cgroup/runner-oci-test/{name}/{file[1]}"):
        if os.path.exists(path):
            return path


def read(path):
    with open(path) as file:
        return file.read().strip()


def clean_up():
    for name in runtime("list", "-q").stdout.split():
        runtime("delete", "-f", name)
    for top, folders, _ in os.walk("/sys/fs/cgroup"):
        if "runner-oci-test" in folders:
            try:
                os.rmdir(top + "/runner-oci-test")
            except OSError:
                pass
        folders[:] = [f for f in folders if top == "/sys/fs/cgroup"]
    shutil.rmtree(work, ignore_errors=True)


atexit.register(clean_up)


def in_user_namespace(config, **kinds):
    """In a user namespace; kinds are paths of namespaces to join."""
    linux = config["linux"]
    linux["namespaces"] = [{"type": kind, "path": kinds[kind]} if kind in kinds else {"type": kind} for kind in ("user", "mount", "pid", "network", "ipc", "uts", "cgroup", "time")]
    if "user" not in kinds:
        linux["uidMappings"] = linux["gidMappings"] = [{"containerID": 0, "hostID": 100000, "size": 65536}]
        linux["timeOffsets"] = {"monotonic": {"secs": 7881, "nanosecs": 27}}
