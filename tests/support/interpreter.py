"""A Python for command lines of flows that takes a fraction of a new interpreter's time.

`python()` is a program like `sys.executable`: it has standard streams, an exit status and an environment, and can be
killed. Behind it, a server forks a child that has imported already what command lines of flows need: Metaflow with the
settings of the call, the clients of AWS and Kubernetes, Hera. Each call is a process of its own, which sees nothing of
another.
What an interpreter does itself (options like ``-I``, variables like ``PYTHONHASHSEED``) is left to the real one;
with ``TEST_NEW_INTERPRETERS=1`` everything is.
"""

from __future__ import annotations

import atexit
import os
import shutil
import subprocess
import sys
import tempfile
import time
from functools import cache
from pathlib import Path

_SERVER = Path(__file__).with_name("fork_server.py")
_START_SECONDS = 60

_CLIENT = """#!{python} -IS
import _socket, array, json, os, signal, sys

arguments = sys.argv[1:]
own = {{k: v for k, v in os.environ.items() if k.startswith("PYTHON")}}
if not arguments or (arguments[0].startswith("-") and arguments[0] not in ("-c", "-m")) or own != {own!r}:
    os.execve({python!r}, [{python!r}, *arguments], os.environ)
umask = os.umask(0)
os.umask(umask)
request = json.dumps(
    {{"arguments": arguments, "environment": dict(os.environ), "folder": os.getcwd(), "umask": umask}}
).encode() + b"\\n"
server = _socket.socket(_socket.AF_UNIX)
server.connect({socket!r})
sent = server.sendmsg([request], [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, array.array("i", [0, 1, 2]))])
while sent < len(request):
    sent += server.send(request[sent:])
status = int(server.recv(16) or 70)
if status < 0:
    signal.signal(-status, signal.SIG_DFL) if -status != signal.SIGKILL else None
    os.kill(os.getpid(), -status)
os._exit(status)
"""


@cache
def python() -> str:
    """Return the path of the program; the server behind it starts with the first call, and ends with this process."""
    if os.environ.get("TEST_NEW_INTERPRETERS") or not hasattr(os, "pidfd_open"):  # Linux has it
        return sys.executable
    folder = Path(tempfile.mkdtemp(prefix="python-"))
    socket = folder / "socket"
    server = subprocess.Popen([sys.executable, str(_SERVER), str(socket)], stdin=subprocess.PIPE)

    def stop() -> None:
        assert server.stdin is not None
        server.stdin.close()
        server.wait()
        shutil.rmtree(folder, ignore_errors=True)

    atexit.register(stop)
    end = time.monotonic() + _START_SECONDS
    while not socket.exists():
        assert server.poll() is None, "the fork server ended"
        assert time.monotonic() < end, "the fork server did not start"
        time.sleep(0.02)
    own = {name: value for name, value in os.environ.items() if name.startswith("PYTHON")}
    client = folder / "python"
    client.write_text(_CLIENT.format(python=sys.executable, own=own, socket=str(socket)))
    client.chmod(0o700)
    return str(client)
