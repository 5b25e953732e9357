"""What a map decides: which item begins, which is tried again, when it is over. It waits for nothing.

Two doors drive it, one that blocks a thread and one that awaits (``maps.py``). They feed it one event after another, in
the thread or task of the caller, which is also the one that iterates over the items and calls ``on_result``. So all of
this needs no lock; only ``post``, ``interrupt`` and ``abort`` come from elsewhere.
"""

from __future__ import annotations

import contextvars
import logging
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple

import msgspec

from tracekeeper.concurrency.outcome import Outcome, OutcomeStatus
from tracekeeper.concurrency.pauses import back_off
from tracekeeper.concurrency.runner import Runner
from tracekeeper.concurrency.task import Task

logger = logging.getLogger("tracekeeper")

HELD_LIMIT = 256
"""Threads that calls of maps which never came back may hold in a process before an item is refused."""
GRACE = 0.5
"""Seconds that running calls have after Ctrl-C; what ends in them counts as finished."""
HELD_FOR = 1.0
"""Seconds after which it is asked again whether items are still held back."""
LOOK_AHEAD = 64
"""At most that many items are taken before there is a place for them, and never more than there are places."""

Event = tuple[int | None, Any]
"""An item's index and its outcome, or ``None`` and something to do."""


class Call(NamedTuple):
    """One item's call."""

    fn: Callable[[], Any]
    name: str
    asynchronous: bool
    settled: Callable[[Any, Outcome[Any]], None] | None = None
    """Told of ``fn`` and the outcome of an attempt the moment it has one, in whatever thread and before what still runs
    of it is cancelled. Lock-free."""


class MapRunner(Runner):
    """A runner of one map, which also counts what earlier maps left behind: the limit is the process's."""

    _left: dict[MapRunner, None] = {}  # noqa: RUF012  shared by all on purpose

    def exhausted(self) -> bool:
        """Whether so much is held that no other call may begin."""
        held = self.held()
        if self._left:
            for runner in self._left.copy():
                theirs = runner.held()
                if not theirs:
                    self._left.pop(runner, None)
                elif runner is not self:
                    held += theirs
        return held >= self.abandoned_limit

    def settle(self, task: Task, status: OutcomeStatus, **details: Any) -> bool:
        """Give a call its outcome, on the watchdog's thread too: a map's callback only leaves a note.

        So a map can end when all threads hang and, since the main thread has ended, no more can be started.
        """
        details["elsewhere"] = False
        return super().settle(task, status, **details)

    def close(self) -> None:
        """Take no more calls. What is held stays counted."""
        super().close()
        self._left[self] = None


class Map:
    """The state of one map.

    Parameters
    ----------
    calls:
        One for each item; iterated over as places become free.
    total:
        How many there are, where that is known.
    concurrency, timeout, retries:
        As of ``parallel_map``.
    post:
        Hands an event to the door, from any thread and from signal handlers.
    runner:
        What makes the calls, where they are not made in this process.
    """

    def __init__(
        self,
        calls: Iterator[Call],
        total: int | None,
        *,
        concurrency: int,
        timeout: float | None,
        retries: int,
        post: Callable[[Event], None],
        runner: MapRunner | None = None,
    ) -> None:
        self.interrupted = False
        self.hold: Callable[[], bool] | None = None
        """Says, before an item is taken, whether to take none for now. ``look`` has it asked again."""
        self.outcomes: list[Outcome[Any]] = []
        """In the order of the items; complete when ``finished``."""
        self.keeps = True
        """Whether ``outcomes`` has them all in the end, or who is told of each lets go of it."""
        self.total = total
        self._calls = calls
        self._timeout = timeout
        self._retries = retries
        self._post = post
        self._runner = runner or MapRunner(
            name="map", concurrency=concurrency, abandoned_limit=max(HELD_LIMIT, concurrency)
        )
        self._window = concurrency + min(concurrency, LOOK_AHEAD)
        self._context = contextvars.copy_context()
        self._started: dict[int, tuple[Call, Task]] = {}
        self._pausing: dict[int, tuple[Call, Outcome[Any]]] = {}
        self._before: dict[int, tuple[str, ...]] = {}  # why items were tried again
        self._all_taken = self._holding = False
        self._stopped: tuple[OutcomeStatus, str] | None = None

    # -- from the door -----------------------------------------------------------------------------------------

    @property
    def finished(self) -> bool:
        """Whether nothing runs and nothing more will."""
        return (self._all_taken or self._stopped is not None) and not self._started and not self._pausing

    def fill(self) -> None:
        """Begin what there is room for. Iterates over the caller's items, which may raise."""
        while not self._all_taken and self._stopped is None and len(self._started) + len(self._pausing) < self._window:
            if self.hold is not None and self.hold():
                self._look_later()
                return
            call = next(self._calls, None)
            if call is None:
                self._all_taken = True
                return
            index = len(self.outcomes)
            self.outcomes.append(_NOT_YET)
            self._start(index, call)

    def take(self, event: Event) -> Outcome[Any] | None:
        """Go on after an event; the outcome, if it was an item's last one."""
        index, what = event
        if index is None:
            what()
            return None
        call = self._started.pop(index)[0] if index in self._started else self._pausing.pop(index)[0]
        if self._to_be_tried_again(index, what):
            self._pause(index, call, what)
            return None
        final = self._final(index, what)
        self.outcomes[index] = final if self.keeps else _TOLD
        if what.attempts == 0 and what.status == "error" and self._stopped is None:
            self._stop("error", what.reason or "it could not start")  # nor would those behind it
        return final

    def rest(self) -> Iterator[Outcome[Any]]:
        """Outcomes of the items that were never taken, where their number is known."""
        if self._stopped is not None and self.total is not None:
            status, reason = self._stopped
            while len(self.outcomes) < self.total:
                final = Outcome[Any](status=status, reason=reason, index=len(self.outcomes))
                self.outcomes.append(final if self.keeps else _TOLD)
                yield final

    def close(self) -> None:
        """Let go of everything that still runs. Waits for nothing."""
        self._runner.close()
        self._give_up("the map was left")
        self._calls, self.hold = iter(()), None  # they have what made us: only the collector would find both

    # -- from anywhere -----------------------------------------------------------------------------------------

    def interrupt(self) -> None:
        """Begin nothing more and end with what is finished."""
        if not self.interrupted:
            self.interrupted = True
            self._post((None, self._interrupt))

    def stop(self, reason: str) -> None:
        """Begin nothing more: what has not begun ends ``cancelled`` with this reason, what runs goes on to its end."""
        self._post((None, partial(self._stop_once, reason)))

    def look(self) -> None:
        """Ask again whether items are held back."""
        self._post((None, _nothing))

    def abort(self) -> None:
        """End with ``KeyboardInterrupt``."""
        self._post((None, _abort))

    # -- inside ------------------------------------------------------------------------------------------------

    def _start(self, index: int, call: Call) -> None:
        task = self._runner.start(
            call.fn,
            timeout=self._timeout,
            done=partial(self._done, index, call),
            name=call.name,
            context=self._context.copy(),
            # A place is free after one timeout at the latest, unless threads that never return hold them all.
            start_within=None if self._timeout is None else 2 * self._timeout + 1,
            asynchronous=call.asynchronous,
        )
        self._started[index] = (call, task)

    def _look_later(self) -> None:
        if not self._holding:
            self._holding = True
            clock = self._runner.clock
            clock.at(clock.now() + HELD_FOR, partial(self._post, (None, self._looked)))

    def _looked(self) -> None:
        self._holding = False

    def _done(self, index: int, call: Call, outcome: Outcome[Any]) -> None:
        try:
            if call.settled is not None:
                call.settled(call.fn, outcome)
        finally:
            self._post((index, outcome))

    def _to_be_tried_again(self, index: int, outcome: Outcome[Any]) -> bool:
        if self._stopped is not None or not outcome.attempts or len(self._before.get(index, ())) >= self._retries:
            return False
        return outcome.status == "timed_out" or (outcome.status == "error" and isinstance(outcome.error, Exception))

    def _pause(self, index: int, call: Call, outcome: Outcome[Any]) -> None:
        why = outcome.reason or f"{type(outcome.error).__name__}: {outcome.error}"
        self._before[index] = (*self._before.get(index, ()), why)
        self._pausing[index] = (call, outcome)
        clock = self._runner.clock
        when = clock.now() + back_off(len(self._before[index]))
        clock.at(when, partial(self._post, (None, partial(self._again, index))))

    def _again(self, index: int) -> None:
        if self._stopped is None and index in self._pausing:
            self._start(index, self._pausing.pop(index)[0])

    def _final(self, index: int, outcome: Outcome[Any]) -> Outcome[Any]:
        before = self._before.pop(index, ())
        if self._stopped is not None and not outcome.attempts:
            status, reason = self._stopped
            return Outcome(status=status, reason=reason, attempts=len(before), interruptions=before, index=index)
        if not before:
            return msgspec.structs.replace(outcome, index=index)
        return msgspec.structs.replace(
            outcome,
            index=index,
            attempts=outcome.attempts + len(before),
            interruptions=(*before, *outcome.interruptions),
        )

    def _stop(self, status: OutcomeStatus, reason: str) -> None:
        self._stopped = (status, reason)
        self._runner.cancel_pending(reason)
        for index, (_, last) in self._pausing.items():  # they end with what they had
            self._before[index] = self._before[index][:-1]
            self._post((index, last))

    def _stop_once(self, reason: str) -> None:
        if self._stopped is None:
            self._stop("cancelled", reason)

    def _interrupt(self) -> None:
        if self._stopped is None:
            self._stop("cancelled", "Ctrl-C")
        known = "" if self.total is None else f" of {self.total}"
        done = sum(outcome is not _NOT_YET for outcome in self.outcomes)
        logger.warning(
            "tracekeeper: Ctrl-C: no more items begin, %d%s are finished; again to give up waiting", done, known
        )
        clock = self._runner.clock
        clock.at(clock.now() + GRACE, partial(self._post, (None, partial(self._give_up, "Ctrl-C"))))

    def _give_up(self, reason: str) -> None:
        for _, task in self._started.values():
            task.cancel(reason)


_NOT_YET: Outcome[Any] = Outcome(status="cancelled", reason="it has not ended")
_TOLD: Outcome[Any] = Outcome(status="cancelled", reason="it was told and let go")


def _nothing() -> None:
    """What is to be done when only ``fill`` is wanted."""


def _abort() -> None:
    raise KeyboardInterrupt
