"""What runs in a worker process: it takes calls from the program that started it, one after the other.

The process is a fresh interpreter (``worker`` starts it): nothing of the program is run again, nothing of its
memory is shared. User code runs here and may do anything, so whatever depends on this process's good will has a second
footing in the kernel:

- *The lifeline* is a pipe whose other end only the program holds. When the program is gone, however it went, the
  kernel kills this process and what it forked, also while C code holds the interpreter lock (Linux; elsewhere a thread
  watches the pipe).
- *A timer* is armed before user code runs. Its signal's default action ends the process some seconds after the
  deadline at which the program should have killed it.
- *The address space* is limited while a call with a memory limit runs.
- *The fault handler* writes where the process was when it crashes, or when the program asks at the deadline.

Standard input is empty; standard output and error are the program's own.
"""

from __future__ import annotations

import contextlib
import faulthandler
import importlib
import os
import pickle
import signal
import socket
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from tracekeeper.concurrency.processes.channel import Channel

BACKSTOP = 5.0
"""Seconds after a deadline at which the kernel ends this process if the program did not."""
LEAVE_WITHIN = 15.0
"""Seconds that this process has for its exit."""
GROWTH = 256 << 20
"""Bytes by which it may grow between two calls of the same function before it asks to be replaced."""
TARGETS = 64
"""Functions that are kept loaded."""
_TEXT = 65_536
_SETSIG = 10  # fcntl's F_SETSIG, which Python does not name

ASK_WHERE: int | None = getattr(signal, "SIGUSR1", None) if hasattr(faulthandler, "register") else None
"""The signal on which the fault handler writes where the process is."""

_loaded: dict[bytes, Any] = {}
_channel: Channel | None = None


def main(hello: dict[str, Any]) -> None:
    """Serve until the program closes the connection. ``hello``: see ``connected``."""
    _serve(connected(hello), os.getpid())
    arm(LEAVE_WITHIN)


def connected(hello: dict[str, Any]) -> Channel:
    """Bind this process to the program's life, connect it, and say that it is ready.

    Parameters
    ----------
    hello:
        ``socket`` (a file descriptor) or ``port`` and ``token``; ``stderr`` (a file descriptor, or ``None``); ``watch``
        (``"signal"`` or ``"thread"``); ``preload`` (modules to import before saying that it is ready).
    """
    _hold_lifeline(hello["watch"])
    global _channel
    channel = _channel = Channel(_connected(hello))
    for module in hello["preload"]:
        importlib.import_module(module)
    log = os.dup(2)  # until here standard error was the log; from here on it is the program's, the log takes crashes
    if hello["stderr"] is not None:
        os.dup2(hello["stderr"], 2)
        os.close(hello["stderr"])
    faulthandler.enable(log)
    if ASK_WHERE is not None:
        faulthandler.register(ASK_WHERE, log, all_threads=False)
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=channel.close)
    channel.send(pickle.dumps(("ready", os.getpid())))
    return channel


def _serve(channel: Channel, me: int) -> None:
    while True:
        try:
            request = channel.receive()
            assert request is not None
            answer = _answer(channel, request)
            if os.getpid() != me:  # the call forked and returned in both processes: only one of them has a caller
                os._exit(0)
            channel.send(answer)
        except (EOFError, OSError):  # the program ends this process, is gone, or the call closed all files
            return


def _answer(channel: Channel, request: bytes) -> bytes:
    """Make one call. Two things are said: that it begins (what it needs is loaded), and what became of it."""
    target, arguments, timeout, memory_limit, load_within = pickle.loads(request)
    phase = "load"
    retire = False
    try:
        arm(load_within + BACKSTOP)
        function = _load(target)
        values = pickle.loads(arguments)
        channel.send(pickle.dumps(("began",)))
        phase = "call"
        arm(timeout + BACKSTOP)
        with _limited(memory_limit):
            value = function(*values)
        phase = "reply"
        reply: tuple[Any, ...] = ("ok", pickle.dumps(value))
        retire = _grown(target)
    except BaseException as error:  # noqa: BLE001  whatever it is, it is the outcome
        retire = isinstance(error, MemoryError)
        reply = ("raised", phase, *_described(error), retire and memory_limit is not None)
    finally:
        arm(0)
    return pickle.dumps((*reply[:1], retire, *reply[1:]))


def tell(news: Any) -> None:
    """Let the caller know something before the call is over (``Call.told``). Plain data; may be lost. From any thread.

    Does nothing in a process that is not one of these.
    """
    if _channel is not None:
        with contextlib.suppress(OSError):  # the program is gone, and this process with it
            _channel.note(pickle.dumps(("told", news)))


def _load(target: bytes) -> Callable[..., Any]:
    function = _loaded.get(target)
    if function is None:
        function = pickle.loads(target)
        while len(_loaded) >= TARGETS:
            _loaded.pop(next(iter(_loaded)))
        _loaded[target] = function
        _called.discard(target)
    return function  # type: ignore[no-any-return]


def arm(seconds: float) -> None:
    """Have the kernel end this process in so many seconds; 0: not any more."""
    if not hasattr(signal, "setitimer"):
        return
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, signal.SIG_DFL)  # an earlier call may have left a handler, or blocked it
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGALRM])
    signal.setitimer(signal.ITIMER_REAL, seconds)


# -- the program's life ------------------------------------------------------------------------------------------------


def _hold_lifeline(watch: str) -> None:
    """End with the program. Standard input, which was the pipe, becomes empty: user code may read it."""
    lifeline = os.dup(0)
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)
    if watch != "signal" or not _signalled(lifeline):
        threading.Thread(target=_watch, args=(lifeline,), name="tracekeeper-lifeline", daemon=True).start()


def _signalled(lifeline: int) -> bool:
    """Have the kernel kill this process and what it forked when the pipe breaks; false where it does not do that."""
    import fcntl
    import select

    try:
        fcntl.fcntl(lifeline, fcntl.F_SETOWN, -os.getpgrp())
        fcntl.fcntl(lifeline, _SETSIG, signal.SIGKILL)
        fcntl.fcntl(lifeline, fcntl.F_SETFL, fcntl.fcntl(lifeline, fcntl.F_GETFL) | os.O_ASYNC)
    except OSError:
        return False
    poll = select.poll()
    poll.register(lifeline, select.POLLIN)
    if poll.poll(0):  # the program went before the signal was asked for
        os._exit(1)
    return True


def _watch(lifeline: int) -> None:
    try:
        os.read(lifeline, 1)
    except OSError:  # the call closed all files: its connection is gone as well, and this process with it
        return
    if hasattr(os, "killpg") and os.getpgrp() == os.getpid():
        os.killpg(os.getpid(), signal.SIGKILL)
    os._exit(1)


def _connected(hello: dict[str, Any]) -> socket.socket:
    if hello["socket"] is not None:
        return socket.socket(fileno=hello["socket"])
    sock = socket.create_connection(("127.0.0.1", hello["port"]))
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.sendall(bytes.fromhex(hello["token"]))
    return sock


# -- memory ------------------------------------------------------------------------------------------------------------

_called: set[bytes] = set()
_held = 0


@contextmanager
def _limited(limit: int | None) -> Iterator[None]:
    """Let the process take ``limit`` more bytes of address space than it has, where the system can count them."""
    pages = _pages()
    if limit is None or pages is None:
        yield
        return
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    bounds = [pages[0] + limit, *(bound for bound in (soft, hard) if bound != resource.RLIM_INFINITY)]
    resource.setrlimit(resource.RLIMIT_AS, (min(bounds), hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


def _grown(target: bytes) -> bool:
    """Whether the process keeps much more than after the last first call of a function (which may load its model)."""
    global _held
    pages = _pages()
    if pages is None:
        return False
    if target not in _called:  # what it loaded stays, also while other functions are called
        _called.add(target)
        _held = pages[1]
    return pages[1] - _held > GROWTH


def _pages() -> tuple[int, int] | None:
    """Bytes of address space, and of memory; ``None`` where there is no /proc."""
    try:
        with open("/proc/self/statm", "rb") as file:
            size, resident = file.read().split()[:2]
    except OSError:
        return None
    page = os.sysconf("SC_PAGE_SIZE")
    return int(size) * page, int(resident) * page


# -- what is said of an exception --------------------------------------------------------------------------------------


def _described(error: BaseException) -> tuple[str, str, str, bool]:
    """Type, message, traceback and whether another attempt makes sense. Total, whatever its ``__str__`` does."""
    kind = type(error)
    name = (
        kind.__qualname__ if kind.__module__ in ("builtins", "__main__") else f"{kind.__module__}.{kind.__qualname__}"
    )
    try:
        message = str(error)[:_TEXT]
    except BaseException as failure:  # noqa: BLE001
        message = f"<str() failed: {type(failure).__name__}>"
    try:
        shown = "".join(traceback.format_exception(error))[-_TEXT:]
    except BaseException as failure:  # noqa: BLE001
        shown = f"<no traceback: {type(failure).__name__}>"
    retriable = isinstance(error, Exception) and getattr(error, "retriable", True) is not False
    return name, message, shown, retriable
