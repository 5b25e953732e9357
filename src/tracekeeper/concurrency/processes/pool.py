"""Calls in processes of their own: for code that may hold the interpreter lock, crash, or take all memory.

A ``ProcessPool`` starts a process when a call comes and none is free, at most ``limit`` of them, and keeps it for the
next call. A process is ended by SIGKILL at its call's deadline and replaced when another is needed; it is also replaced
after ``CALLS`` calls and when its memory grew, and ended when nobody needed it for a minute. Starting one holds up
nobody but the caller who needs it. What becomes of a call is always a ``ProcessOutcome``; no caller waits without end.

See ``child`` for what binds the processes to the life of this program, and ``worker`` for one of them.
"""

from __future__ import annotations

import logging
import os
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Sequence
from enum import Enum
from functools import partial
from typing import Literal

from tracekeeper.concurrency.processes import start as processes_start
from tracekeeper.concurrency.processes.outcome import ProcessCall, ProcessOutcome
from tracekeeper.concurrency.processes.start import Started, spawning
from tracekeeper.concurrency.processes.worker import WorkerProcess
from tracekeeper.concurrency.threads import start_daemon
from tracekeeper.concurrency.watchdog import watchdog

__all__ = ["ProcessCall", "ProcessOutcome", "ProcessPool", "default_limit"]

logger = logging.getLogger("tracekeeper")

CALLS = 500
"""A process is replaced after that many."""
IDLE_SECONDS = 60.0
START_WITHIN = 30.0
"""Seconds that a process has until it takes calls."""
WAIT_WITHIN = 30.0
"""Seconds that a call waits for a process when all are busy."""
TRIES = 3
"""Processes that may be found dead before a call gives up."""
CLOSED = "the pool of processes was closed"
KILLED_WITHIN = 1.0
"""Seconds for the system to end a process that was killed."""
LEAVE_SECONDS = 10.0
"""Seconds that a process which is not needed any more has for its exit."""
LOOK = 0.5
"""Seconds between two looks whether a call that waits is still wanted."""
_pools: weakref.WeakSet[ProcessPool] = weakref.WeakSet()


def default_limit() -> int:
    """Processes at a time when nobody says otherwise: two a processor, at most eight."""
    return min(8, 2 * (os.cpu_count() or 1))


class _New(Enum):
    """In place of a process: room for a new one."""

    NEW = "new"


NEW: Literal[_New.NEW] = _New.NEW


class ProcessPool:
    """Processes that take calls, one at a time each.

    Parameters
    ----------
    limit:
        How many at most; asked before each start, so it may change.
    preload:
        Modules that a process imports before it takes calls.
    """

    def __init__(self, *, limit: Callable[[], int] = default_limit, preload: Sequence[str] = ()) -> None:
        self.limit = limit
        self.preload = tuple(preload)
        self._reset()
        _pools.add(self)

    def _reset(self) -> None:
        self._lock = threading.Lock()
        self._waiting: deque[threading.Event] = deque()  # one for each call without a process; the first is next
        self._idle: list[WorkerProcess] = []  # the last is the one that was used last
        self._workers: set[WorkerProcess] = set()
        self._places = 0  # taken by processes that live or are being started
        self._closings = 0
        self._watched = False
        self.started = 0
        """Processes started so far."""

    def run(self, call: ProcessCall) -> ProcessOutcome:
        """Make a call and wait for what becomes of it.

        That is at most the time for a free place (``WAIT_WITHIN``), for starting a process (``START_WITHIN``), the
        call's ``load_within`` and its ``timeout``, and seconds of slack. Never raises for what the call does.
        """
        for _ in range(TRIES):
            worker = self._take(call.unwanted)
            if isinstance(worker, ProcessOutcome):
                return worker
            try:
                outcome = worker.call(call)
            except BaseException:
                worker.spent = True
                raise
            finally:
                self._give_back(worker)
            if outcome is not None:  # else: it had died while it was idle
                return outcome
        return ProcessOutcome(status="not_started", reason=f"{TRIES} processes died before they could be asked")

    def close(self, timeout: float = 0.0) -> None:
        """End all processes: busy ones at once, idle ones with ``timeout`` seconds for their exit.

        Calls that wait or run are ``cancelled``. The pool can be used again.
        """
        with self._lock:
            self._closings += 1
            workers, idle = list(self._workers), self._idle
            self._idle = []
            self._places -= len(idle)
            for turn in self._waiting:
                turn.set()
        for worker in workers:
            if worker in idle:
                worker.leave()
            else:
                worker.kill(CLOSED)
        until = time.monotonic() + timeout
        for worker in workers:
            if worker not in idle:
                worker.wait(KILLED_WITHIN)
        for worker in idle:
            worker.wait(max(0.0, until - time.monotonic()))
            worker.end()
            self._forget(worker)

    def alive(self) -> list[int]:
        """Process ids of those that live."""
        with self._lock:
            return [worker.process.pid for worker in self._workers if worker.exit_status() is None]

    # -- taking and giving back --------------------------------------------------------------------------------

    def _take(self, unwanted: Callable[[], bool] | None) -> WorkerProcess | ProcessOutcome:
        """A process, in the order in which calls came; waits for a place while all are taken."""
        until = time.monotonic() + WAIT_WITHIN
        turn = threading.Event()
        with self._lock:
            closings = self._closings
            self._waiting.append(turn)
        try:
            while (found := self._look(turn)) is None:
                if self._closings != closings or (unwanted is not None and unwanted()):
                    return ProcessOutcome(status="cancelled", reason="cancelled while it waited", retriable=False)
                left = until - time.monotonic()
                if left <= 0:
                    reason = f"no process was free within {WAIT_WITHIN:g} s: all {self._places} were busy"
                    return ProcessOutcome(status="not_started", reason=reason)
                turn.wait(min(LOOK, left))
        finally:
            with self._lock:
                self._waiting.remove(turn)
                self._wake()
        return self._start(closings) if found is NEW else found

    def _look(self, turn: threading.Event) -> WorkerProcess | Literal[_New.NEW] | None:
        """What there is for the first that waits, if that is the caller."""
        with self._lock:
            turn.clear()
            if self._waiting[0] is not turn:
                return None
            while self._idle:
                worker = self._idle.pop()
                if worker.channel is not None and worker.channel.idle():
                    return worker
                self._retire(worker)
            if self._places >= max(1, self.limit()):
                return None
            self._places += 1
            return NEW

    def _wake(self) -> None:
        """Something is free, or the first one left: let the next one look. Under the lock."""
        if self._waiting:
            self._waiting[0].set()

    def _start(self, closings: int) -> WorkerProcess | ProcessOutcome:
        """Start a process in the place that was taken; outside of the lock, so that nobody else waits for it."""
        worker: WorkerProcess | None = None

        def known(started: Started) -> None:
            nonlocal worker
            worker = WorkerProcess(started)
            with self._lock:
                self._workers.add(worker)
                self.started += 1
                if self._closings != closings:
                    worker.kill(CLOSED)

        try:
            processes_start.start(self.preload, known)
            assert worker is not None
            failure = worker.wait_ready(START_WITHIN)
            if failure is None:
                return worker
        except Exception as error:  # noqa: BLE001  no more processes, file descriptors, memory
            reason = f"its process could not be started: {type(error).__name__}: {error}"
            failure = ProcessOutcome(status="not_started", reason=reason)
        self._drop(worker)
        return failure

    def _give_back(self, worker: WorkerProcess) -> None:
        if worker.spent or worker.doom is not None or worker.calls >= CALLS:
            with self._lock:
                self._retire(worker)
            return
        with self._lock:
            worker.idle_since = time.monotonic()
            self._idle.append(worker)
            self._wake()
            self._watch()

    def _drop(self, worker: WorkerProcess | None) -> None:
        if worker is not None:
            worker.end()
        with self._lock:
            if worker is not None:
                self._workers.discard(worker)
            self._places -= 1
            self._wake()

    def _retire(self, worker: WorkerProcess) -> None:
        """Its place is free at once; it ends on a thread of its own, since that may take a while. Under the lock."""
        self._places -= 1
        self._wake()
        if worker.ended:
            self._workers.discard(worker)
            return
        worker.leave()
        try:
            start_daemon(partial(self._see_off, worker), "tracekeeper-process-end")
        except RuntimeError:  # no thread to be had
            worker.kill("not needed any more")

    def _see_off(self, worker: WorkerProcess) -> None:
        if worker.doom is None:
            worker.wait(LEAVE_SECONDS)
        worker.end()
        self._forget(worker)

    def _forget(self, worker: WorkerProcess) -> None:
        with self._lock:
            self._workers.discard(worker)

    # -- idle ones ---------------------------------------------------------------------------------------------

    def _watch(self) -> None:
        """See to it that idle processes end. Under the lock."""
        if not self._watched and self._idle:
            self._watched = True
            clock = watchdog()
            clock.at(clock.now() + IDLE_SECONDS, self._end_idle)

    def _end_idle(self) -> None:
        """On the watchdog's thread: what was idle for long is not needed."""
        before = time.monotonic() - IDLE_SECONDS
        with self._lock:
            self._watched = False
            for worker in [worker for worker in self._idle if worker.idle_since <= before]:
                self._idle.remove(worker)
                self._retire(worker)
            self._watch()

    # -- forks -------------------------------------------------------------------------------------------------

    def _after_fork_in_child(self) -> None:
        """The processes are the parent's. Its files are let go of: they tell a process that its program has ended."""
        for worker in list(self._workers):
            worker.disown()
        self._reset()


_held_by: set[int] = set()


def _before_fork() -> None:
    # A process that is being started has files that nobody knows yet; a forked child would hold them for ever.
    if spawning.acquire(timeout=1.0):
        _held_by.add(threading.get_ident())


def _after_fork_in_parent() -> None:
    if threading.get_ident() in _held_by:
        _held_by.discard(threading.get_ident())
        spawning.release()


def _after_fork_in_child() -> None:
    _held_by.clear()
    spawning._at_fork_reinit()  # type: ignore[attr-defined]
    for pool in list(_pools):
        pool._after_fork_in_child()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before_fork, after_in_parent=_after_fork_in_parent, after_in_child=_after_fork_in_child)
