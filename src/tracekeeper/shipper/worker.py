"""The shipper's thread: how it is started, woken, asked and paused. Standard library only, and cheap to import.

Invariants
----------
- ``wake`` is lock-free: it may run in a finaliser or a signal handler that interrupted ``wake`` itself, or anything
  else in this process. It takes no lock that could be held below it (``SimpleQueue.put`` is reentrant, the latch is
  only ever tried), waits for nothing, and raises nothing.
- At most one thread runs per worker: whoever gets the latch starts it, the thread gives it back when it ends for
  whatever reason, so the next ``wake`` or ``ask`` starts another.
- A token is in the queue, or the thread has yet to look at the journal, whenever something was written after its last
  look. (The flag falls *before* it looks: a write in between only costs a second look.)
- Callers wait on their own request with their own deadline, never on the thread.
"""

from __future__ import annotations

import _thread
import logging
import threading
import time
from collections.abc import Callable
from queue import Empty, SimpleQueue
from typing import Any, Protocol

from tracekeeper.concurrency import waits
from tracekeeper.concurrency.threads import at_shutdown

log = logging.getLogger("tracekeeper")

LINGER = 0.015
"""Seconds for which the thread gathers after the first write, so that a call's start and end meet in one batch."""

MAKE_AGAIN = 5.0
"""Seconds after which making the crew is tried again."""

IMPORT_PATIENCE = 60.0
"""Seconds that a fork waits for the import of the database layer to end."""


class Request:
    """What a caller asks the thread for, and the answer.

    Parameters
    ----------
    kind:
        ``ship`` (everything journaled so far, then what dead processes left), ``receipt`` (the same, and the account
        of it) or ``close``.
    target:
        Number of frames that the journal had when it was asked.
    deadline:
        Monotonic time after which nobody waits any more.
    """

    __slots__ = ("answered", "deadline", "kind", "ledger", "reason", "shipped", "target")

    def __init__(self, kind: str, *, target: int, deadline: float) -> None:
        self.kind = kind
        self.target = target
        self.deadline = deadline
        self.shipped = False
        """Whether everything up to ``target`` is in the store."""
        self.reason: str | None = None
        """Why not (yet), in one sentence."""
        self.ledger: Any = None
        self.answered = threading.Event()

    def answer(self, reason: str | None = None) -> None:
        """Let the caller go."""
        self.reason = reason
        self.answered.set()

    @property
    def done(self) -> bool:
        """Whether it was answered."""
        return self.answered.is_set()

    def wait(self) -> bool:
        """Wait for the answer until the deadline; whether it came."""
        return waits.wait(self.answered.wait, max(0.0, self.deadline - time.monotonic()))


class Crew(Protocol):
    """What works in the thread."""

    def turn(self, requests: list[Request]) -> float:
        """Do what there is to do; seconds until the next turn if nothing wakes the thread before."""


class Worker:
    """A daemon thread that ships, started by the first write and again whenever it was lost.

    Parameters
    ----------
    make:
        Makes the crew, in the thread; imports the database layer.
    name:
        Of the thread, as stack dumps show it.
    """

    def __init__(self, make: Callable[[], Crew], *, name: str) -> None:
        self._make = make
        self._name = name
        self._crew: Crew | None = None
        self._queue: SimpleQueue[Request | None] = SimpleQueue()
        self._signalled = False
        self._alive = _thread.allocate_lock()  # held for as long as the thread lives; only ever tried
        self._busy = _thread.allocate_lock()  # held during a turn: whoever has it knows that the thread does nothing
        self._free = (
            threading.Event()
        )  # cleared while somebody wants `_busy`: locks are not fair, the thread steps aside
        self._free.set()
        self._stopping = False
        self._settled = False
        self._unmade = ""
        self._make_at = 0.0
        self.pausing = False
        """Set while somebody wants ``_busy``: a long turn ends at its next step."""
        self.since: float | None = None
        """Monotonic time at which the present turn began; ``None`` between turns."""

    def wake(self) -> None:
        """Something was written. Lock-free."""
        if self._signalled:
            return
        self._signalled = True
        self._queue.put(None)
        if not self._alive.locked():
            self._start()

    def ask(self, request: Request) -> Request:
        """Hand a request to the thread; the caller then waits on it."""
        self._queue.put(request)
        if not self._alive.locked():
            self._start()
        if not self._alive.locked():
            # The interpreter is shutting down and gives no more threads: the caller, whose time it is, does it.
            self._turn_here(request)
        return request

    def urgent(self) -> bool:
        """Whether a long turn should end at its next step: somebody asks, or wants the thread to pause."""
        return self.pausing or self._stopping or not self._queue.empty()

    @property
    def running(self) -> bool:
        """Whether the thread lives (or is being started)."""
        return self._alive.locked()

    def pause(self, timeout: float, *, importing: float = 0.0) -> bool:
        """Wait until the thread is between two turns and keep it there; whether that succeeded in time.

        Parameters
        ----------
        timeout:
            Seconds.
        importing:
            Further seconds while the thread has yet to finish its first turn: it imports, which goes on by itself
            however slow the machine is. (A process forked in the middle of an import could never import that module,
            nor could the program in it.)
        """
        self.pausing = True
        self._free.clear()
        if self._busy.acquire(timeout=timeout):
            return True
        return not self._settled and importing > 0 and self._busy.acquire(timeout=importing)

    def resume(self) -> None:
        """Undo a ``pause`` that succeeded."""
        self._busy.release()
        self.give_up_pause()

    def give_up_pause(self) -> None:
        """Undo a ``pause`` that did not succeed."""
        self.pausing = False
        self._free.set()

    def forget(self) -> None:
        """While paused: let the crew go; the next turn makes another."""
        self._crew = None
        self._settled = False

    def stop(self) -> None:
        """Let the thread end after its present turn. A later ``wake`` or ``ask`` starts another."""
        if self._alive.locked():
            self._stopping = True
            self._queue.put(None)

    def _start(self) -> None:
        if not self._alive.acquire(blocking=False):
            return
        try:
            # Not threading.Thread here: its start() takes the lock of the list of threads and waits for the new
            # thread, and a finaliser that interrupted somebody else's start() would wait for ever.
            _thread.start_new_thread(self._begin, ())
        except RuntimeError:  # no more threads now, or the interpreter is on its way out: a later write tries again
            self._signalled = False
            self._alive.release()

    def _begin(self) -> None:
        # On a thread of our own it is safe to make a proper one, which has a name and is known as a daemon.
        try:
            threading.Thread(target=self._run, name=self._name, daemon=True).start()
        except RuntimeError as error:  # as above
            if at_shutdown(error):  # somebody may wait for an answer already: this thread is there, and gives it
                self._run()
                return
            self._signalled = False
            self._alive.release()

    def _run(self) -> None:
        requests: list[Request] = []
        try:
            wait = LINGER
            while not self._stopping:
                requests = self._gather(wait)
                self._free.wait(IMPORT_PATIENCE)
                with self._busy:
                    if requests or not self._stopping:
                        wait = self._turn(requests)
        except Exception as error:  # a crew catches its own errors; if one gets here the next write starts a new thread
            self._crew = None
            for request in requests:
                request.answer(f"the shipper's thread ended: {error!r}")
            log.exception("the shipper's thread ended; the next write starts it again")  # last: a handler may raise too
        finally:
            self.since = None
            self._stopping = False
            self._signalled = False
            self._alive.release()
            if not self._queue.empty():  # asked while it was ending
                self._start()

    def _turn(self, requests: list[Request]) -> float:
        self.since = time.monotonic()
        try:
            crew = self._crew or self._made(requests)
            if crew is None:
                return MAKE_AGAIN
            wait = crew.turn(requests)
            self._settled = True
            return wait
        finally:
            self.since = None

    def _made(self, requests: list[Request]) -> Crew | None:
        if not requests and time.monotonic() < self._make_at:
            return None
        try:
            self._crew = self._make()
        except Exception as error:
            # The database layer cannot be imported (a broken installation): say so once, keep trying slowly.
            self._make_at = time.monotonic() + MAKE_AGAIN
            if str(error) != self._unmade:
                self._unmade = str(error)
                log.exception("nothing can be stored at present; spans wait in the journal")
            for request in requests:
                request.answer(f"nothing can be stored at present: {error!r}")
        return self._crew

    def _turn_here(self, request: Request) -> None:
        if not self._busy.acquire(timeout=max(0.0, request.deadline - time.monotonic())):
            return
        try:
            self._turn(self._gather(0.0))
        except Exception as error:
            log.exception("shipping without the shipper's thread failed")
            request.answer(f"shipping failed: {error!r}")
        finally:
            self.since = None
            self._busy.release()

    def _gather(self, wait: float) -> list[Request]:
        """Wait for a token or a request, linger for more, and take them all."""
        requests: list[Request] = []
        deadline = time.monotonic() + wait
        while not requests and not self._stopping:
            try:
                item = self._queue.get(timeout=max(0.0, deadline - time.monotonic()))
            except Empty:
                break
            if item is not None:
                requests.append(item)
            else:
                deadline = min(deadline, time.monotonic() + LINGER)
        while not self._queue.empty():
            item = self._queue.get()
            if item is not None:
                requests.append(item)
        self._signalled = False
        return requests
