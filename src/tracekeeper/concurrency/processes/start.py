"""Starting a fresh interpreter that serves a pool, and getting a connection with it.

Not ``multiprocessing``'s ways: *spawn* runs the program's own file again in the child, *fork* copies a program whose
threads hold locks. The child is told on its standard input where to find things. On POSIX it inherits its end of a
socket; elsewhere it connects to a port of this machine and shows a secret that only it was told. Standard input stays
open: it is the lifeline by which the child learns that this program is gone.
"""

from __future__ import annotations

import contextlib
import hmac
import json
import os
import secrets
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple

from tracekeeper.concurrency.processes.channel import Channel

INHERIT = hasattr(socket, "socketpair") and os.name == "posix"
"""Whether a child inherits its end of the connection; elsewhere it connects to a port of this machine."""
LIFELINE: Literal["signal", "thread"] = "signal" if sys.platform == "linux" else "thread"
"""How a child learns of this program's end: by a signal of the kernel, or from a thread that watches a pipe."""
ACCEPT_LOOK = 0.5
"""Seconds between two looks whether a child that has not connected is still there."""
_BOOT = (
    "import json, sys\n"
    "hello = json.loads(sys.stdin.buffer.readline())\n"
    "sys.path[:] = hello['path']\n"
    "from importlib import import_module\n"
    "module, _, name = hello['main'].partition(':')\n"
    "getattr(import_module(module), name)(hello)\n"
)

spawning = threading.Lock()
"""Held while file descriptors of a new child are open that nobody knows yet: no fork meanwhile."""


class Started(NamedTuple):
    """A process that was started and has not said anything yet."""

    process: subprocess.Popen[bytes]
    log: Any
    """What it writes before it is ready, and when it crashes."""
    channel: Channel | None
    server: socket.socket | None
    token: bytes


def start(
    preload: Sequence[str],
    known: Callable[[Started], None],
    main: str = "tracekeeper.concurrency.processes.child:main",
) -> None:
    """Start a process and give it to ``known`` before anything else can go wrong.

    Parameters
    ----------
    preload:
        Modules that it imports before it says that it is ready.
    main:
        ``module:function``: what it runs.

    Raises
    ------
    OSError
        The system gives no process, no file descriptors, no temporary file.
    """
    with contextlib.ExitStack() as undo, contextlib.ExitStack() as stack:
        stack.enter_context(spawning)
        log = undo.enter_context(tempfile.TemporaryFile())
        hello: dict[str, Any] = {
            "path": [entry for entry in sys.path if isinstance(entry, str)],
            "main": main,
            "preload": list(preload),
            "watch": LIFELINE,
            "socket": None,
            "stderr": None,
        }
        passed: list[int] = []
        ours = server = None
        if INHERIT:
            ours, theirs = socket.socketpair()
            undo.callback(ours.close)
            stack.callback(theirs.close)
            hello["socket"] = theirs.fileno()
            passed.append(theirs.fileno())
            with contextlib.suppress(OSError):  # a daemon may have closed it: what is printed there goes nowhere
                hello["stderr"] = os.dup(2)
                stack.callback(os.close, hello["stderr"])
                passed.append(hello["stderr"])
        else:
            server = undo.enter_context(socket.create_server(("127.0.0.1", 0)))
            hello["port"], hello["token"] = server.getsockname()[1], secrets.token_hex(32)
        process = _popen(log, passed)
        undo.pop_all()
        token = bytes.fromhex(hello.get("token", ""))
        known(Started(process, log, None if ours is None else Channel(ours), server, token))
        assert process.stdin is not None
        with contextlib.suppress(OSError):  # it is dead already: whoever waits for it finds out, and tells why
            process.stdin.write(json.dumps(hello).encode() + b"\n")


def accept(server: socket.socket, token: bytes, gone: Callable[[], bool]) -> Channel:
    """The connection of the child that knows the token; whoever else connects is turned away.

    Raises
    ------
    EOFError
        The child is gone.
    """
    with server:
        server.settimeout(ACCEPT_LOOK)
        while True:
            if gone():
                raise EOFError("the process is gone")
            with contextlib.suppress(OSError):
                sock, _ = server.accept()
                if _knows(sock, token):
                    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                    return Channel(sock)
                sock.close()


def _knows(sock: socket.socket, token: bytes) -> bool:
    sock.settimeout(ACCEPT_LOOK)
    said = b""
    with contextlib.suppress(OSError):
        while len(said) < len(token) and (piece := sock.recv(len(token) - len(said))):
            said += piece
    return hmac.compare_digest(said, token)


def _popen(log: Any, passed: list[int]) -> subprocess.Popen[bytes]:
    # The options of this interpreter (-O, -W, -X dev) go along, as `multiprocessing` does it.
    flags: list[str] = getattr(subprocess, "_args_from_interpreter_flags", list)()
    more: dict[str, Any] = {"pass_fds": passed, "start_new_session": True} if os.name == "posix" else {}
    # Not by `-m`: the package is found where this program found it, whatever the new interpreter's own path is.
    command = [sys.executable, *flags, "-P", "-c", _BOOT, "tracekeeper-worker"]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stderr=log, bufsize=0, **more)
