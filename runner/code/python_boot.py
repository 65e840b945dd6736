import sys
sys.path[:] = [p for p in sys.path if p]  # a json.py in the workspace is the cells', not the driver's
import fcntl, json, os, socket
channel = socket.socket(fileno=fcntl.fcntl(3, fcntl.F_DUPFD_CLOEXEC, 200))
os.close(3)
requests = channel.makefile("rb")
exec(compile(json.loads(requests.readline())["driver"], "<runner>", "exec"))
