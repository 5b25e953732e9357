"""One thread per process that knows when something is due.

It owns a heap of entries and sleeps until the first of them; whoever adds an earlier one wakes it. Adding is lock-free
(a ``deque`` and a ``SimpleQueue``), because a call may be started by a finaliser.

Its clock is *fair*: it stands still while the whole process stands still. While anything is watched the thread wakes
every ``TICK`` seconds; when it finds itself woken later than asked by more than ``TOLERANCE`` (the process was stopped
by SIGSTOP, the machine slept, C code held the interpreter lock), it takes its own lateness off the clock. So calls that
would have been in time are not failed for a pause that hit everybody. A stop is underestimated by at most one tick.
"""

from __future__ import annotations

import contextlib
import heapq
import itertools
import logging
import os
import queue
import time
from collections import deque
from collections.abc import Callable
from typing import Protocol

from tracekeeper.concurrency.threads import start_daemon

logger = logging.getLogger("tracekeeper")

TICK = 0.1
"""Seconds between two looks at the clock and the loops while calls run."""
TOLERANCE = 0.15
"""Lateness, in seconds, that is scheduling noise. More is taken off the clock."""
_NEVER = float("inf")


class Watched(Protocol):
    """Who wants to be looked at on every tick (a runner)."""

    def busy(self) -> bool:
        """Whether anything runs or waits; the watchdog ticks while it is so."""
        ...

    def tick(self, now: float) -> None:
        """Called on the watchdog's thread. Must be quick."""
        ...


class Timer:
    """Something to do at a time of the fair clock, unless it is cancelled before."""

    __slots__ = ("action", "when")

    def __init__(self, when: float, action: Callable[[], None] | None) -> None:
        self.when = when
        self.action = action

    def cancel(self) -> None:
        """Forget it. Lock-free; drops the reference to the action at once."""
        self.action = None


class Watchdog:
    """Timers and ticks. One per process (``watchdog()``); made anew in a forked child."""

    def __init__(self) -> None:
        self.slip = 0.0
        """Seconds that the fair clock stood still so far."""
        self._heap: list[tuple[float, int, Timer]] = []
        self._incoming: deque[Timer] = deque()
        self._order = itertools.count()
        self._wake: queue.SimpleQueue[None] = queue.SimpleQueue()
        self._signalled = False
        self._woken_at = time.monotonic()
        self._until = _NEVER  # the thread sleeps until then; +inf: it is awake, or asleep without end, or not started
        self._watched: dict[Watched, None] = {}  # its operations are atomic: runners come and go in any thread
        self._start: list[None] = [None]  # popped by the one that starts the thread
        self._checked_at = 0  # size after the last compaction: the next comes when the heap has doubled (linear cost)

    def now(self) -> float:
        """The fair clock, in seconds."""
        return time.monotonic() - self.slip

    def at(self, when: float, action: Callable[[], None]) -> Timer:
        """Run ``action`` on the watchdog's thread at ``when`` (fair clock). Lock-free. ``action`` must be quick."""
        timer = Timer(when, action)
        self._incoming.append(timer)
        if when < self._until:
            self.wake()
        return timer

    def watch(self, watched: Watched) -> None:
        """Call its ``tick`` while it is busy."""
        self._watched[watched] = None

    def unwatch(self, watched: Watched) -> None:
        """Forget it."""
        self._watched.pop(watched, None)

    def wake(self) -> None:
        """Look at everything now. Lock-free; starts the thread if need be."""
        if not self._signalled:
            self._woken_at = time.monotonic()
            self._signalled = True
            self._wake.put(None)
        if self._start:
            self._launch()

    def ensure_ticking(self) -> None:
        """Somebody became busy: make sure that ticks come. Cheap when they already do."""
        if self._start or self._until - self.now() > TICK:  # asleep without end, or until a timer that is far away
            self.wake()

    def warm(self) -> None:
        """Have its thread at hand."""
        if self._start:
            self._launch()

    def _launch(self) -> None:
        try:
            self._start.pop()
        except IndexError:
            return
        self._until = _NEVER
        try:
            start_daemon(self._run, "tracekeeper-watchdog", lambda: self._start.append(None))
        except RuntimeError:
            self._start.append(None)
            raise

    def _run(self) -> None:
        expected = self._woken_at  # when this thread should have been here: every moment of its life is accounted for
        while True:
            try:
                self._until = _NEVER  # whoever adds something from here on wakes us again
                self._signalled = False
                now = time.monotonic()
                self._forgive(now - expected)
                expected = now  # its own work takes no time worth naming; if it did, it was held up
                self._due()
                self._until = until = self._next()
                if not self._incoming and not self._signalled:
                    expected = self._sleep(until)
            except BaseException:  # deadlines depend on this thread: whatever happens, it goes on
                logger.exception("tracekeeper: the watchdog met an error and goes on")

    def _sleep(self, until: float) -> float:
        """Sleep until then (fair clock) or until a signal; the time at which it should have woken."""
        if until == _NEVER:
            self._wake.get()
            return self._woken_at if self._signalled else time.monotonic()  # else a token of an earlier signal
        due = until + self.slip
        with contextlib.suppress(queue.Empty):
            self._wake.get(timeout=max(0.0, due - time.monotonic()))
        return min(due, self._woken_at) if self._signalled else due

    def _forgive(self, late: float) -> None:
        if late > TOLERANCE:
            self.slip += late
            logger.debug("tracekeeper: woke %.3f s late (was the process stopped?); deadlines are extended", late)

    def _due(self) -> None:
        while self._incoming:
            timer = self._incoming.popleft()
            if timer.action is not None:  # most calls end before anybody looks at their deadline
                heapq.heappush(self._heap, (timer.when, next(self._order), timer))
        now = self.now()
        while self._heap and (self._heap[0][0] <= now or self._heap[0][2].action is None):
            timer = heapq.heappop(self._heap)[2]
            action, timer.action = timer.action, None
            if action is not None:
                self._guard(action)
        self._compact()
        for watched in self._watched.copy():
            if watched.busy():
                self._guard(lambda watched=watched: watched.tick(now))  # type: ignore[misc]

    def _compact(self) -> None:
        """Drop cancelled entries once they are the most: a heap of a million settled calls is nobody's deadline."""
        if len(self._heap) < max(1024, self._checked_at * 2):
            return
        self._heap = [entry for entry in self._heap if entry[2].action is not None]
        heapq.heapify(self._heap)
        self._checked_at = len(self._heap)

    def _next(self) -> float:
        first = self._heap[0][0] if self._heap else _NEVER
        if any(watched.busy() for watched in self._watched.copy()):
            first = min(first, self.now() + TICK)
        return first

    @staticmethod
    def _guard(action: Callable[[], None]) -> None:
        try:
            action()
        except BaseException:
            logger.exception("tracekeeper: a deadline's action failed; the others go on")


_watchdog = Watchdog()


def watchdog() -> Watchdog:
    """The watchdog of this process."""
    return _watchdog


def _after_fork_in_child() -> None:
    """Threads do not survive a fork, so nothing that this one watched exists any more."""
    global _watchdog
    _watchdog = Watchdog()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
