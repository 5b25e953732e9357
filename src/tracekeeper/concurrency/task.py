"""One call under a deadline: its state, and the claims by which exactly one party moves it on.

A claim is a one-element list: ``pop`` succeeds for exactly one of any number of threads, without a lock.

``waiting``  popped by whoever ends the wait: the runner (it may begin) or the watchdog (it waited too long).
``armed``    popped by whoever settles it: the worker that has a result, the watchdog, a cancel.
"""

from __future__ import annotations

import contextvars
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from tracekeeper.concurrency.outcome import Outcome

if TYPE_CHECKING:
    from tracekeeper.concurrency.runner import Runner
    from tracekeeper.concurrency.watchdog import Timer


class Task:
    """A call that was given to a runner."""

    __slots__ = (
        "_armed",
        "_waiting",
        "admitted",
        "asynchronous",
        "attempt",
        "awaitable",
        "call",
        "context",
        "coroutine",
        "done",
        "interruptions",
        "name",
        "place",
        "restartable",
        "runner",
        "start_timer",
        "started",
        "started_at",
        "stays",
        "timeout",
        "timer",
    )

    def __init__(
        self,
        runner: Runner,
        call: Callable[[], Any],
        done: Callable[[Outcome[Any]], None],
        *,
        timeout: float | None,
        name: str,
        context: contextvars.Context,
        restartable: bool,
        asynchronous: bool,
        stays: bool = False,
    ) -> None:
        self.runner = runner
        self.call: Callable[[], Any] | None = call
        self.done: Callable[[Outcome[Any]], None] | None = done
        self.timeout = timeout
        self.name = name
        self.context: contextvars.Context | None = context
        self.restartable = restartable
        self.stays = stays
        self.asynchronous = asynchronous
        self.attempt = 0
        self.admitted = False  # it holds one of the runner's places, from admission until it is settled
        self.started = 0.0  # fair clock
        self.started_at = 0.0  # Unix time
        self.place: Any = None  # the worker or the engine loop that has it
        self.awaitable: Any = None  # what a call that looked synchronous returned
        self.coroutine: Any = None  # the asyncio task of the present attempt
        self.interruptions: tuple[str, ...] = ()
        self.timer: Timer | None = None
        self.start_timer: Timer | None = None
        self._waiting: list[None] = [None]
        self._armed: list[None] = [None]

    @property
    def settled(self) -> bool:
        """Whether its outcome was given."""
        return not self._armed

    def stop_waiting(self) -> bool:
        """Claim the end of its wait: true for exactly one caller."""
        try:
            self._waiting.pop()
        except IndexError:
            return False
        timer, self.start_timer = self.start_timer, None
        if timer is not None:
            timer.cancel()
        return True

    @property
    def epoch(self) -> int:
        """Changes when the call is to begin again: what an earlier epoch brings is of no interest any more."""
        return len(self.interruptions)

    @property
    def begun(self) -> bool:
        """Whether its wait is over: it began, or it was settled while it waited."""
        return not self._waiting

    def begin(self, now: float, place: Any) -> None:
        """A new attempt begins; its deadline counts from here."""
        self.place = place
        self.started = now
        self.started_at = time.time()
        self.attempt += 1

    def forget_start_timer_if_begun(self) -> None:
        """Called after ``start_timer`` was set: the wait may have ended just before."""
        if not self._waiting and self.start_timer is not None:
            self.start_timer.cancel()

    def settle(self) -> Callable[[Outcome[Any]], None] | None:
        """Claim its outcome: ``done`` for exactly one caller, ``None`` for everybody who comes later.

        What the call held on to (arguments, context) is let go, since an abandoned thread may keep the task for long.
        """
        try:
            self._armed.pop()
        except IndexError:
            return None
        done, self.done = self.done, None
        self.call = self.context = None
        timer, self.timer = self.timer, None
        if timer is not None:
            timer.cancel()
        return done

    def cancel(self, reason: str = "cancelled") -> None:
        """Settle it as ``cancelled``, unless it has settled. A running coroutine is cancelled, a thread abandoned.

        Returns at once; ``done`` is called from a thread of the runner.
        """
        self.runner.cancel(self, reason)

    def __repr__(self) -> str:
        state = "settled" if self.settled else "running" if self.attempt else "waiting"
        return f"<Task {self.name!r} {state} attempt={self.attempt}>"
