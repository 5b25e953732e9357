"""The end of the program: what is done, in which order, and for how long at most.

At a normal exit the callbacks run in order, in the main thread. Those of the scoring rooms (order below 20) share
``exit_timeout``; what follows (open spans are ended, everything is shipped, the journal is removed) shares another
``GRACE`` seconds. Each gets the deadline and has to keep it; a callback that raises is logged and the next one runs.
Ctrl-C ends the waiting, not the leaving: the step that waited is run once more without time to wait, then the others.

SIGTERM's default action ends a process without any of this. Nothing is lost then either, because every frame is in the
journal, but scores that were running are. ``configure(sigterm=True)`` installs a handler that leaves properly first.
"""

from __future__ import annotations

import logging
import os
import signal
import threading
import time
from collections.abc import Callable
from types import FrameType

log = logging.getLogger("tracekeeper")

SWEEP, SHIP, CLOSE = 20, 30, 40
"""Orders of the runtime's own steps; whoever lets work finish comes before ``SWEEP``."""

GRACE = 2.0
"""Seconds for everything from ``SWEEP`` on."""

_callbacks: list[tuple[int, Callable[[float], None]]] = []
_handled: list[int] = []


def at_exit(callback: Callable[[float], None], *, order: int) -> None:
    """Have ``callback(deadline)`` called when the program ends.

    Parameters
    ----------
    callback:
        Gets a ``time.monotonic()`` value by which it must have returned; waits must be bounded by it.
    order:
        Low ones run first. 10: scores are drained; 20: open spans are ended; 30: everything is shipped; 40: closed.
    """
    _callbacks.append((order, callback))


def leave(exit_timeout: float) -> None:
    """Run the callbacks in order, each with its deadline. Never raises an ``Exception``."""
    deadline = time.monotonic() + exit_timeout
    graceful = False
    for order, callback in sorted(_callbacks, key=_order):
        if order >= SWEEP and not graceful:
            graceful = True
            deadline = time.monotonic() + GRACE
        try:
            try:
                callback(deadline)
            except KeyboardInterrupt:  # no more waiting; what needs no time is still done: states, spans, storing
                deadline = time.monotonic()
                callback(deadline)
        except Exception:  # the others must still run, above all the one that ships
            log.exception("a step of leaving (order %d) failed", order)


def handle_sigterm(leave_now: Callable[[], object], ship: Callable[[], object]) -> bool:
    """Install the SIGTERM handler, once and from the main thread only.

    Where the program has a handler of its own, that one decides what happens: what is journaled is shipped, and then
    it is called. Where the default action is in force, the program leaves as at a normal exit and then ends by the
    signal, so that its parent sees why.

    Parameters
    ----------
    leave_now:
        Everything a normal exit does.
    ship:
        Store what is there, quickly.

    Returns
    -------
    bool
        Whether the handler is in force.
    """
    if _handled:  # also in a forked child, which inherits the handler
        return True
    if threading.current_thread() is not threading.main_thread():
        return False
    before = signal.getsignal(signal.SIGTERM)
    if before is None:  # installed by C code: it could not be called from ours
        log.warning("sigterm=True has no effect: SIGTERM is handled outside of Python")
        return False

    def handler(number: int, frame: FrameType | None) -> None:
        if callable(before):
            _try(ship)
            before(number, frame)
        elif before == signal.SIG_IGN:
            _try(ship)
        else:
            _try(leave_now)
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)

    signal.signal(signal.SIGTERM, handler)
    _handled.append(signal.SIGTERM)
    return True


def _try(step: Callable[[], object]) -> None:
    try:
        step()
    except Exception:  # the program's own handler must be reached whatever happens here
        log.exception("leaving at SIGTERM failed")


def _order(entry: tuple[int, Callable[[float], None]]) -> int:
    return entry[0]
