"""The one deadline runner: every call that is started gets exactly one outcome, in bounded time.

Synchronous calls run on daemon threads, asynchronous ones on event loops in daemon threads, never on the caller's. A
watchdog settles what is overdue, whatever the thread or the loop does: a thread that does not come back is abandoned
and replaced; a loop that does not answer is abandoned with the call that blocks it, its other calls go on elsewhere.

``start`` takes no lock, since it may be reached from a finaliser. The bookkeeping (who may begin, where) is done by
whichever thread gets the gate without waiting for it; the others leave a note (``_dirty``) and go, and the holder looks
for notes after it has let the gate go.
"""

from __future__ import annotations

import contextvars
import logging
import os
import queue
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Any

from tracekeeper.concurrency import stacks
from tracekeeper.concurrency.loops import discard
from tracekeeper.concurrency.outcome import Outcome, OutcomeStatus, RunningCall
from tracekeeper.concurrency.rescue import Rescue
from tracekeeper.concurrency.shapes import awaited, describe, is_async, is_awaitable
from tracekeeper.concurrency.task import Task
from tracekeeper.concurrency.waits import get
from tracekeeper.concurrency.watchdog import Watchdog, watchdog
from tracekeeper.concurrency.workers import Worker, Workers

logger = logging.getLogger("tracekeeper")

COROUTINES_PER_THREAD = 16
"""That many coroutines that ignore their cancellation count as one abandoned thread: they hold memory, not a stack."""

Done = Callable[[Outcome[Any]], None]
_runners: weakref.WeakSet[Runner] = weakref.WeakSet()
_inherited: list[Any] = []
"""Loops of the parent process, kept alive in a forked child: closing one would take the parent's own file descriptors
off the epoll instance that both share."""


class Runner:
    """Runs calls under deadlines, at most ``concurrency`` at a time, started in the order they came.

    Parameters
    ----------
    name:
        For thread names and messages.
    concurrency:
        Calls that run at the same time; the attribute may be changed at any time. A call that timed out gives its
        place to the next, although its thread may go on.
    abandoned_limit:
        Threads and loops that may be held by calls that do not come back. At the limit no call begins until one does.

    Example
    -------
    >>> import queue
    >>> runner, outcomes = Runner(name="example", concurrency=2), queue.SimpleQueue()
    >>> task = runner.start(lambda: 6 * 7, timeout=5, done=outcomes.put)
    >>> outcomes.get(timeout=5).value
    42
    >>> runner.close()
    """

    def __init__(self, *, name: str, concurrency: int, abandoned_limit: int = 64) -> None:
        self.name = name
        self.concurrency = concurrency
        self.abandoned_limit = abandoned_limit
        self._reset()
        _runners.add(self)

    def _reset(self) -> None:
        self._gate = threading.Lock()
        self._dirty = False
        self._closed = False
        self._active = 0  # changed by the holder of the gate only
        self._waiting: deque[Task] = deque()
        self._to_place: deque[Task] = deque()  # admitted; want a thread or a loop (again)
        self._unplaced: deque[Task] = deque()  # there was none to have; tried again at the next tick
        self._freed: deque[None] = deque()
        self._drainers: list[queue.SimpleQueue[None]] = []
        self._workers = Workers(self.name)
        self._in_threads: dict[Worker, Task] = {}
        self._rescue = Rescue(self)
        self._counting = threading.Lock()
        self.late = 0
        """Results that came after their call had been settled; discarded."""
        self.failed_callbacks = 0
        """Calls of ``done`` that raised."""
        self._watchdog = watchdog()
        self._watchdog.watch(self)

    # -- the public face ---------------------------------------------------------------------------------------

    def start(
        self,
        call: Callable[[], Any],
        *,
        timeout: float | None,
        done: Done,
        name: str = "",
        context: contextvars.Context | None = None,
        restartable: bool = False,
        start_within: float | None = None,
        asynchronous: bool | None = None,
        stays: bool = False,
    ) -> Task:
        """Run ``call`` and give its outcome to ``done``. Returns at once; takes no lock.

        Parameters
        ----------
        call:
            A sync or async callable of no arguments, or one that returns an awaitable.
        timeout:
            Seconds from the moment it begins; ``None``: no deadline.
        done:
            Called exactly once, from a thread of the runner. It must be quick and must not raise (that is logged).
        name:
            What messages and lists call it; default: the callable's own name.
        context:
            The contextvars it sees; default: a copy of the caller's.
        restartable:
            It may be run again when another call blocks the event loop it is on. Without it nothing runs twice.
        start_within:
            Seconds after which it is an ``error`` if it could not begin; ``None``: it waits for as long as it takes.
        asynchronous:
            Whether it belongs on an event loop from the start; default: as ``is_async`` tells.
        stays:
            When another call blocks the event loop that it is on, it waits there until that one is through or its own
            deadline comes. Without it, and not ``restartable``, it ends ``timed_out`` then.

        Raises
        ------
        RuntimeError
            The runner is closed, or the system gives no thread for its watchdog.
        """
        if self._closed:
            raise RuntimeError(f"runner {self.name!r} is closed")
        task = Task(
            self,
            call,
            done,
            timeout=timeout,
            name=name or describe(call),
            context=contextvars.copy_context() if context is None else context,
            restartable=restartable,
            asynchronous=is_async(call) if asynchronous is None else asynchronous,
            stays=stays,
        )
        self._watchdog.ensure_ticking()  # first: when there can be no watchdog, nothing has been accepted
        self._waiting.append(task)
        self._pump()
        self._watchdog.ensure_ticking()  # and again: it may have looked before there was something to see
        if start_within is not None:
            self._limit_wait(task, start_within)
        return task

    def warm(self, threads: int = 1, *, asynchronous: bool = False) -> None:
        """Have the threads at hand that a call needs, since an interpreter that shuts down gives no more. Lock-free."""
        if self._closed:
            return
        try:
            self._watchdog.warm()
            self._workers.warm(threads)
            if asynchronous and self._gate.acquire(blocking=False):
                try:
                    self._rescue.warm()
                finally:
                    self._gate.release()
                    if self._dirty:  # somebody came meanwhile and left it to us
                        self._pump()
        except RuntimeError as error:  # `start` meets the same and says so
            logger.debug("tracekeeper cannot start threads for %s: %s", self.name, error)

    def _limit_wait(self, task: Task, start_within: float) -> None:
        if task.begun:
            return
        when = self._watchdog.now() + start_within
        task.start_timer = self._watchdog.at(when, partial(self._not_begun, task, start_within))
        task.forget_start_timer_if_begun()

    def cancel(self, task: Task, reason: str) -> None:
        """Settle a task as ``cancelled`` (see ``Task.cancel``)."""
        self._watchdog.at(0.0, partial(self._cancel, task, reason))

    def cancel_pending(self, reason: str) -> int:
        """Settle everything that has not begun as ``cancelled``; how many that were."""
        taken: list[Task] = []
        while self._waiting:
            try:
                task = self._waiting.popleft()
            except IndexError:  # the last one began meanwhile
                break
            if task.stop_waiting():
                taken.append(task)
        for task in taken:
            self._watchdog.at(0.0, partial(self._settle_later, task, reason))
        return len(taken)

    def drain(self, timeout: float | None) -> bool:
        """Wait until nothing runs or waits; false when that took longer than ``timeout`` seconds."""
        waiter: queue.SimpleQueue[None] = queue.SimpleQueue()
        self._drainers.append(waiter)
        self._pump()
        try:
            get(waiter, timeout)
        except queue.Empty:
            return False
        finally:
            self._drainers.remove(waiter)
        return True

    def close(self) -> None:
        """Take no more calls, cancel what has not begun, and let threads end as they become idle. Waits for nothing."""
        self._closed = True
        self.cancel_pending(f"runner {self.name!r} was closed")
        self._rescue.close()
        self._workers.close()
        self._pump()

    def running(self, *, stacks_after: float = 0.0) -> list[RunningCall]:
        """What runs now, the oldest first; calls that timed out and still go on are among them, ``settled``.

        Where each is is looked up of those that have run for ``stacks_after`` seconds.
        """
        now = time.time()
        before = now - stacks_after
        calls = [
            _running_call(task, now, "thread", stacks.of_thread(worker.ident) if task.started_at <= before else [])
            for worker, task in self._in_threads.copy().items()
        ]
        for loop in self._rescue.all():
            for coroutine, task in loop.tasks.copy().items():
                places = loop.places(coroutine) if task.started_at <= before else []
                calls.append(_running_call(task, now, "loop", places))
        return sorted(calls, key=lambda call: call.since)

    def abandoned(self) -> tuple[int, int]:
        """Threads and loops that are held by calls which were settled and did not come back."""
        return len(self._rescue.threads), len(self._rescue.lost)

    def ignoring_cancellation(self) -> int:
        """Coroutines that timed out and did not end when they were cancelled."""
        return len(self._rescue.stuck)

    def has_loop(self, loop: Any) -> bool:
        """Whether an asyncio loop is one of its own."""
        return any(each.loop is loop for each in self._rescue.all())

    def load(self) -> tuple[int, int]:
        """Calls that run, and calls that wait to begin."""
        return self._active, len(self._waiting)

    # -- who may begin -----------------------------------------------------------------------------------------

    def _pump(self) -> None:
        self._dirty = True
        while self._dirty:
            # Never waits: the holder may be this very thread, one frame up, interrupted by a finaliser.
            if not self._gate.acquire(blocking=False):
                return
            try:
                self._dirty = False
                self._admit()
            finally:
                self._gate.release()

    def _admit(self) -> None:
        while self._freed:
            self._freed.popleft()
            self._active -= 1
        while self._to_place:
            self._place(self._to_place.popleft())
        while self._waiting and self._active < self.concurrency and not self.exhausted():
            try:
                task = self._waiting.popleft()
            except IndexError:  # `cancel_pending` was quicker
                break
            if task.stop_waiting():
                task.admitted = True
                self._active += 1
                self._place(task)
        if self._active == 0 and not self._waiting:
            for waiter in self._drainers.copy():
                waiter.put(None)
            if self._closed:
                self._rescue.close()
                self._watchdog.unwatch(self)

    def _place(self, task: Task) -> None:
        try:
            if task.asynchronous or task.awaitable is not None:
                self._rescue.put(task)
            else:
                self._workers.put(partial(self._run_in_thread, task))
        except RuntimeError as error:  # no thread for a new loop
            logger.warning("tracekeeper cannot start an event loop for %s: %s; it tries again", self.name, error)
            self.place_later(task)

    def place_again(self, task: Task) -> None:
        """Give an admitted call another place."""
        self._to_place.append(task)
        self._pump()

    def place_later(self, task: Task) -> None:
        """Give an admitted call another place at the next tick: there was none to have."""
        self._unplaced.append(task)

    def exhausted(self) -> bool:
        """Whether too much is held by calls that did not come back, so that no other may begin."""
        return self.held() >= self.abandoned_limit

    def held(self) -> int:
        """Threads that are held by calls which do not come back, loops among them, coroutines in proportion."""
        rescue = self._rescue
        return len(rescue.threads) + len(rescue.lost) + len(rescue.stuck) // COROUTINES_PER_THREAD

    def wake(self) -> None:
        """Something that was held came back."""
        self._pump()

    @property
    def clock(self) -> Watchdog:
        """The watchdog and its fair clock."""
        return self._watchdog

    def is_in(self, worker: Worker, task: Task) -> bool:
        """Whether a worker is in a call at this moment."""
        return self._in_threads.get(worker) is task

    def coroutine_ended(self, coroutine: Any) -> None:
        """A coroutine has ended (on its loop's thread)."""
        self._rescue.coroutine_ended(coroutine)

    # -- running -----------------------------------------------------------------------------------------------

    def begin(self, task: Task, place: Any) -> None:
        """A call begins on a worker or a loop: its deadline counts from here."""
        now = self._watchdog.now()
        task.begin(now, place)
        if task.timeout is not None:
            task.timer = timer = self._watchdog.at(now + task.timeout, partial(self._overdue, task, task.epoch))
            if task.settled:
                timer.cancel()

    def _run_in_thread(self, task: Task, worker: Worker) -> None:
        call, context = task.call, task.context
        if call is None or context is None:  # settled while it waited for this thread
            return
        epoch = task.epoch
        self._in_threads[worker] = task
        try:
            self.begin(task, worker)
            value = context.run(call)
            if is_awaitable(value):
                self._await(task, value)
            else:
                self.settle(task, "ok", value=value, epoch=epoch)
        except BaseException as error:  # noqa: BLE001  whatever the call raises is its outcome
            self._raised(task, epoch, error)
        finally:
            del self._in_threads[worker]
            self._rescue.worker_back(worker)

    def _await(self, task: Task, awaitable: Any) -> None:
        if task.settled:
            discard(awaitable)
            return
        task.awaitable = awaitable
        self.place_again(task)

    async def drive(self, task: Task, epoch: int) -> None:
        """The coroutine around an asynchronous call (on an engine loop)."""
        try:
            call, value = task.call, task.awaitable
            if call is None:  # settled before its first step
                discard(value)
                return
            if value is None:
                value = call()
            if is_awaitable(value):
                value = await awaited(value)
            self.settle(task, "ok", value=value, epoch=epoch)
        except BaseException as error:  # noqa: BLE001  also SystemExit, which asyncio would let stop the loop
            self._raised(task, epoch, error)

    def _raised(self, task: Task, epoch: int, error: BaseException) -> None:
        cancelled = type(error).__name__ == "CancelledError"  # asyncio's and concurrent.futures' are two classes
        if cancelled and (task.settled or epoch != task.epoch):
            return  # it was cancelled because nobody wants it any more
        reason = "it was cancelled from within" if cancelled else None
        self.settle(task, "cancelled" if cancelled else "error", error=error, reason=reason, epoch=epoch)

    # -- settling ----------------------------------------------------------------------------------------------

    def settle(
        self,
        task: Task,
        status: OutcomeStatus,
        *,
        value: Any = None,
        error: BaseException | None = None,
        reason: str | None = None,
        epoch: int | None = None,
        elsewhere: bool = False,
    ) -> bool:
        """Give a call its outcome, unless it has one; false then, or when the result is of an earlier epoch."""
        done = task.settle() if epoch is None or epoch == task.epoch else None
        if done is None:
            with self._counting:
                self.late += 1
            return False
        outcome = Outcome(
            status=status,
            value=value,
            error=error,
            reason=reason,
            seconds=max(0.0, self._watchdog.now() - task.started) if task.attempt else 0.0,
            attempts=task.attempt,
            interruptions=task.interruptions,
        )
        if elsewhere:
            # The watchdog runs nobody's callback itself: one that blocks would stop all deadlines.
            self._workers.put(lambda _: self._deliver(task, done, outcome))
        else:
            self._deliver(task, done, outcome)
        return True

    def _deliver(self, task: Task, done: Done, outcome: Outcome[Any]) -> None:
        try:
            done(outcome)
        except BaseException:
            with self._counting:
                self.failed_callbacks += 1
            logger.exception("tracekeeper: the callback of %s raised", task.name)
        finally:
            if task.admitted:
                self._freed.append(None)
                self._pump()

    # -- on the watchdog's thread ------------------------------------------------------------------------------

    def busy(self) -> bool:
        """Whether the watchdog has to look."""
        return bool(self._active or self._waiting or self._workers.backlog())

    def tick(self, now: float) -> None:
        """Look after loops, and try again what could not be started."""
        self._rescue.check_loops(now)
        self._to_place.extend(self._unplaced)
        self._unplaced.clear()
        self._workers.ensure()
        self._pump()

    def _overdue(self, task: Task, epoch: int) -> None:
        if not task.settled and task.epoch == epoch:
            self._rescue.overdue(task, self._watchdog.now())

    def _not_begun(self, task: Task, start_within: float) -> None:
        if not task.stop_waiting():
            return
        if self.exhausted():
            threads, loops = self.abandoned()
            why = (
                f"{threads} threads and {loops} event loops are held by calls that do not return "
                f"(the limit is {self.abandoned_limit})"
            )
        else:
            why = f"{self._active} calls were running (the limit is {self.concurrency})"
        self.settle(task, "error", reason=f"could not start within {start_within:g} s: {why}", elsewhere=True)

    def _settle_later(self, task: Task, reason: str) -> None:
        self.settle(task, "cancelled", reason=reason, elsewhere=True)

    def _cancel(self, task: Task, reason: str) -> None:
        if task.stop_waiting():
            self._settle_later(task, reason)
        elif not task.settled:
            self._rescue.give_up(task, "cancelled", reason)


def _running_call(task: Task, now: float, where: str, places: stacks.Places) -> RunningCall:
    return RunningCall(
        name=task.name,
        since=task.started_at,
        age=max(0.0, now - task.started_at),
        attempt=task.attempt,
        timeout=task.timeout,
        settled=task.settled,
        where=where,
        stack=stacks.shown(places),
        telling=stacks.telling(places),
    )


def _after_fork_in_child() -> None:
    """Threads do not survive a fork: in the child every runner is as new. The parent runs what it had."""
    for runner in list(_runners):
        _inherited.extend(runner._rescue.all())
        runner._reset()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
