"""What happens to threads and loops when a call does not come back. Runs on the watchdog's thread, never waits.

*A thread* that is still in a call which was settled is abandoned: it is counted, its place in the runner is free, and
should it come back after all it is an ordinary worker again.

*A coroutine* that is settled is cancelled. It gets a moment to end; one that swallows the cancellation is counted.

*A loop* that does not answer for a second is abandoned together with the call whose step is running on it: that one
keeps its own deadline. Calls that had not begun move to a new loop. Of those that had, the restartable ones begin again
there (``interruptions`` says why); the others, which must not be run twice, end ``timed_out`` and name the blocker,
unless they chose to stay there for as long as it takes. A
restartable call whose deadline comes while the loop is silent, before the second is over, leaves it too: the time was
not its own.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from tracekeeper.concurrency import stacks
from tracekeeper.concurrency.loops import EngineLoop
from tracekeeper.concurrency.outcome import OutcomeStatus
from tracekeeper.concurrency.task import Task
from tracekeeper.concurrency.workers import Worker

if TYPE_CHECKING:
    from tracekeeper.concurrency.runner import Runner

MOMENT = 1.0
"""Seconds that a cancelled coroutine has to end before it counts as one that ignores its cancellation."""
HICCUP = 0.5
"""Silence of a loop, in seconds, after which a deadline that comes is blamed on whoever blocks it."""
RESTARTS = 3
"""A call that met that many blocked loops is not begun again."""


class Rescue:
    """The loops of a runner, and everything of it that is lost or held up."""

    def __init__(self, runner: Runner) -> None:
        self._runner = runner
        self._loop: EngineLoop | None = None  # takes new calls
        self._serving: set[EngineLoop] = set()
        self.lost: set[EngineLoop] = set()
        self.threads: dict[Worker, Task] = {}
        self.stuck: set[Any] = set()

    def all(self) -> list[EngineLoop]:
        """Every loop that lives."""
        return [*self._serving.copy(), *self.lost.copy()]

    def put(self, task: Task) -> None:
        """Begin a call on the present loop. Only the holder of the runner's gate calls this."""
        loop = self.warm()
        loop.put(task)
        if loop.leaving:  # decided meanwhile: what the loop has not taken goes elsewhere
            self._move(loop)

    def warm(self) -> EngineLoop:
        """The present loop, begun if there is none. Only the holder of the runner's gate calls this."""
        loop = self._loop
        if loop is None or loop.leaving:
            loop = EngineLoop(self._runner.name, self._runner.drive, self._loop_ended)
            self._serving.add(loop)
            self._loop = loop
        return loop

    def close(self) -> None:
        """Let every loop end with its last call."""
        for loop in self._serving.copy():
            loop.leave()

    # -- deadlines ---------------------------------------------------------------------------------------------

    def overdue(self, task: Task, now: float) -> None:
        """A call's deadline has come."""
        loop = task.place if isinstance(task.place, EngineLoop) else None
        blocker = loop.blocked_by(now, HICCUP) if loop is not None else None
        if loop is not None and blocker not in (None, task) and task.restartable and self._restarts_left(task):
            self._retire(loop)
            self._restart(task, loop, _blame(loop, blocker))
            return
        where = self._where(task)
        reason = f"timed out after {task.timeout:g} s" + (f" in {where}" if where else "")
        self.give_up(task, "timed_out", reason)
        if loop is not None and blocker is task:
            self._abandon(loop)  # it blocks the loop beyond its own deadline: no need to wait for the second

    def give_up(self, task: Task, status: OutcomeStatus, reason: str) -> None:
        """Settle a call that runs, and let go of the thread or the coroutine that it is in."""
        place = task.place
        if isinstance(place, Worker):
            self.threads[place] = task  # before its place is given away, so that the limit holds
            if not self._runner.settle(task, status, reason=reason, elsewhere=True) or not self._runner.is_in(
                place, task
            ):
                self.worker_back(place)
        elif self._runner.settle(task, status, reason=reason, elsewhere=True):
            self._cancel_coroutine(place, task.coroutine)

    def worker_back(self, worker: Worker) -> None:
        """A worker has left its call."""
        if self.threads and self.threads.pop(worker, None) is not None:
            self._runner.wake()

    def coroutine_ended(self, coroutine: Any) -> None:
        """A coroutine has ended (on its loop's thread)."""
        if self.stuck and coroutine in self.stuck:
            self.stuck.discard(coroutine)
            self._runner.wake()

    def _cancel_coroutine(self, loop: Any, coroutine: Any) -> None:
        if isinstance(loop, EngineLoop) and coroutine is not None:
            loop.call_soon(coroutine.cancel)
            clock = self._runner.clock
            clock.at(clock.now() + MOMENT, partial(self._count_stuck, loop, coroutine))

    def _count_stuck(self, loop: EngineLoop, coroutine: Any) -> None:
        if not loop.abandoned and not coroutine.done():
            self.stuck.add(coroutine)
            if coroutine.done():  # just now: `coroutine_ended` may have looked too early
                self.stuck.discard(coroutine)

    def _where(self, task: Task) -> str:
        if isinstance(task.place, Worker):
            return stacks.telling(stacks.of_thread(task.place.ident))
        if isinstance(task.place, EngineLoop):
            return stacks.telling(task.place.places(task.coroutine))
        return ""

    # -- loops -------------------------------------------------------------------------------------------------

    def check_loops(self, now: float) -> None:
        """Heartbeats."""
        for loop in self._serving.copy():
            if loop.heartbeat(now):
                self._abandon(loop)

    def _retire(self, loop: EngineLoop) -> None:
        """No new calls; those on it go on."""
        loop.leave()
        if self._loop is loop:
            self._loop = None
        self._move(loop)

    def _abandon(self, loop: EngineLoop) -> None:
        blocker = loop.blocker()
        blame = _blame(loop, blocker)
        loop.abandoned = True
        self.lost.add(loop)
        self._serving.discard(loop)
        self._retire(loop)
        for coroutine, task in loop.tasks.copy().items():
            if task is blocker and task.coroutine is coroutine:
                continue
            if task.settled or task.coroutine is not coroutine:
                loop.call_soon(coroutine.cancel)
            elif task.stays:
                continue  # it goes on there if the blocker comes back, and ends at its own deadline if not
            elif task.restartable and self._restarts_left(task):
                self._restart(task, loop, blame)
            else:
                reason = f"{blame}; it had begun, and it is not run twice"
                self._runner.settle(task, "timed_out", reason=reason, elsewhere=True)
                loop.call_soon(coroutine.cancel)

    def _restart(self, task: Task, loop: EngineLoop, blame: str) -> None:
        timer, task.timer = task.timer, None
        if timer is not None:
            timer.cancel()
        coroutine = task.coroutine
        task.interruptions = (*task.interruptions, blame)  # from here on what the old attempt brings is ignored
        task.awaitable = None  # the call is made again
        task.place = task.coroutine = None
        self._cancel_coroutine(loop, coroutine)
        self._runner.place_again(task)

    def _move(self, loop: EngineLoop) -> None:
        for task in loop.take_back():
            self._runner.place_again(task)

    def _loop_ended(self, loop: EngineLoop) -> None:
        """On the loop's thread, as its last act (or because it could not begin)."""
        loop.leaving = True
        if self._loop is loop:
            self._loop = None
        self._serving.discard(loop)
        self.lost.discard(loop)
        for task in loop.take_back():
            self._runner.place_later(task)  # not at once: where a loop could not begin, the next one may fail as well
        self._runner.wake()

    @staticmethod
    def _restarts_left(task: Task) -> bool:
        return len(task.interruptions) < RESTARTS


def _blame(loop: EngineLoop, blocker: Task | None) -> str:
    name = f"by {blocker.name}" if blocker is not None else "by a callback"
    where = stacks.telling(loop.places(None))
    return f"its event loop was blocked {name}" + (f" in {where}" if where else "")
