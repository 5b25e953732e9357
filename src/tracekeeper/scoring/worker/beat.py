"""A daemon thread that does the same thing again and again; nothing that goes wrong ends it.

What goes wrong is counted, and said once a minute at most: a database that is locked or away for an hour must neither
end a worker nor fill its log.

A turn uses the database, and a connection that is in use when the process forks keeps the child from it: a fork waits
for a moment until no turn is under way, and none begins meanwhile.
"""

from __future__ import annotations

import logging
import os
import queue
import threading
import time
from collections import deque
from collections.abc import Callable

from tracekeeper.concurrency.threads import at_shutdown, start_daemon
from tracekeeper.types import StoreError

log = logging.getLogger("tracekeeper")

SAY_EVERY = 60.0
"""Seconds between two lines about the same thing."""
FIRST_PAUSE, LONGEST_PAUSE = 0.1, 5.0
"""Seconds after something went wrong, doubled each time."""


FORK_PATIENCE = 2.0
"""Seconds that a fork waits for turns to end, and turns for a fork."""


class _Gate:
    """Turns pass it, and a fork closes it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._inside = 0
        self._open = threading.Event()
        self._open.set()
        self._empty = threading.Event()
        self._empty.set()

    def __enter__(self) -> None:
        self._open.wait(FORK_PATIENCE)
        with self._lock:
            self._inside += 1
            self._empty.clear()

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._inside -= 1
            if not self._inside:
                self._empty.set()

    def close(self) -> None:
        """Before a fork."""
        self._open.clear()
        self._empty.wait(FORK_PATIENCE)

    def open(self) -> None:
        """After it, in the parent."""
        self._open.set()


class Beat:
    """Calls ``turn`` in a thread of its own until it is stopped. Used once: after ``stop`` another one is made.

    Parameters
    ----------
    name:
        Of the thread, as stack dumps show it.
    doing:
        What it does, for the log: "claiming scores".
    turn:
        Does it, and returns the seconds until the next turn if nothing wakes the thread before.
    """

    def __init__(self, name: str, doing: str, turn: Callable[[], float]) -> None:
        self.name = name
        self.failures = 0
        """Turns that failed."""
        self.trouble: str | None = None
        """Why the last turn failed, in one sentence; ``None`` when it did not."""
        self.turns = 0
        """Turns that went well."""
        self._doing = doing
        self._turn = turn
        self._queue: queue.SimpleQueue[None] = queue.SimpleQueue()
        self._signalled = False
        self._stopping = False
        self._waiters: deque[threading.Event] = deque()
        self._pause = 0.0
        self._said: dict[str, float] = {}
        self._ended = threading.Event()
        self._unstarted: list[None] = [None]

    def start(self) -> None:
        """Begin, unless begun."""
        try:
            self._unstarted.pop()
        except IndexError:
            return
        try:
            start_daemon(self._run, self.name, self._ended.set)
        except RuntimeError as error:  # no thread to have now; the caller comes again
            self._unstarted.append(None)
            level = logging.DEBUG if at_shutdown(error) else logging.WARNING
            log.log(level, "tracekeeper cannot start the thread %s: %s", self.name, error)

    @property
    def started(self) -> bool:
        """Whether it was started (it may have been stopped since)."""
        return not self._unstarted

    def wake(self) -> None:
        """Let the next turn come now."""
        if not self._signalled:
            self._signalled = True
            self._queue.put(None)

    def ask(self) -> threading.Event:
        """Set after a turn that began later than this and went well."""
        waiter = threading.Event()
        self._waiters.append(waiter)
        self.wake()
        return waiter

    def stop(self) -> None:
        """Let the thread end after its present turn."""
        self._stopping = True
        self._queue.put(None)

    def join(self, deadline: float) -> bool:
        """Wait until the thread has ended, at most until ``deadline`` (``time.monotonic()``)."""
        return not self.started or self._ended.wait(max(0.0, deadline - time.monotonic()))

    def _run(self) -> None:
        try:
            while not self._stopping:
                wait = self._once()
                try:
                    self._queue.get(timeout=wait)
                    while True:
                        self._queue.get_nowait()
                except queue.Empty:
                    pass  # nobody woke it, or everybody who did is seen to by the next turn
                self._signalled = False
        finally:
            self._ended.set()

    def _once(self) -> float:
        waiters = list(self._waiters)
        try:
            with _gate:
                wait = self._turn()
        except StoreError as error:
            self._failed(f"the database cannot be used now: {error}")
        except BaseException as error:  # noqa: BLE001  a mistake of ours or of a module that was imported
            self._failed(f"{type(error).__name__}: {error}", error)
        else:
            if self.trouble is not None:
                log.info("tracekeeper: %s works again", self._doing)
            self.turns += 1
            self.trouble, self._pause = None, 0.0
            for waiter in waiters:
                self._waiters.remove(waiter)
                waiter.set()
            return wait
        return self._pause

    def _failed(self, reason: str, error: BaseException | None = None) -> None:
        self.failures += 1
        self.trouble = reason
        self._pause = min(LONGEST_PAUSE, max(FIRST_PAUSE, self._pause * 2))
        now = time.monotonic()
        kind = "the database" if error is None else type(error).__name__
        if now - self._said.get(kind, -SAY_EVERY) >= SAY_EVERY:
            self._said[kind] = now
            log.warning("tracekeeper: %s failed (%s); it is tried again", self._doing, reason, exc_info=error)


_gate = _Gate()


def _begin_anew() -> None:
    """In a forked child, which has none of these threads."""
    global _gate
    _gate = _Gate()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=lambda: _gate.close(), after_in_parent=lambda: _gate.open(), after_in_child=_begin_anew)
