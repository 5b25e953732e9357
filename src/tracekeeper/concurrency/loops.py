"""Event loops in daemon threads, for calls that await.

A runner has one loop for new calls. A loop that stops answering is replaced: *retired* when a neighbour had to leave
it (no new calls come, those on it go on), *abandoned* when it was silent for a second. Whoever blocks it is known:
every asyncio task made on the loop, by us or by the call itself, remembers the call that it works for, and
``asyncio.current_task(loop)`` tells from any thread which one's step is running.

asyncio is imported by the loop's own thread: it takes longer to import than all of the engine, and a program whose
metrics are sync never needs it.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any

from tracekeeper.concurrency import stacks
from tracekeeper.concurrency.task import Task
from tracekeeper.concurrency.threads import start_daemon

if TYPE_CHECKING:
    import asyncio

logger = logging.getLogger("tracekeeper")

SILENCE = 1.0
"""A loop that does not answer for that many seconds is abandoned."""

Drive = Callable[[Task, int], Coroutine[Any, Any, None]]


class EngineLoop:
    """An event loop in a daemon thread of its own."""

    def __init__(self, name: str, drive: Drive, on_end: Callable[[EngineLoop], None]) -> None:
        self._drive = drive
        self._on_end = on_end
        self._incoming: deque[Task] = deque()
        self._signalled = False
        self.loop: asyncio.AbstractEventLoop | None = None
        """Made by its own thread: a finaliser that starts a call must not open sockets and import modules."""
        self.tasks: dict[asyncio.Task[Any], Task] = {}
        """What runs here: settled calls too, until they really end."""
        self.ident: int | None = None
        self.leaving = False
        """It ends when nothing is left on it."""
        self.abandoned = False
        self._pinged_at = 0.0
        self._answered = True
        self._suspect: asyncio.Task[Any] | None = None
        self._suspect_since = 0.0
        start_daemon(self._run, f"tracekeeper-{name}-loop", lambda: on_end(self))

    # -- from any thread ---------------------------------------------------------------------------------------

    def put(self, task: Task) -> None:
        """Begin the call on the loop. Lock-free: at most one wake-up is under way."""
        self._incoming.append(task)
        if not self._signalled:
            self._signalled = True
            if self.loop is not None and threading.get_ident() == self.ident:
                # A call that ended here lets the next one begin: no system call, which would give away the interpreter.
                self.loop.call_soon(self._take)
            else:
                self.call_soon(self._take)

    def take_back(self) -> list[Task]:
        """The calls that were put and have not begun; each goes to the loop or to the caller, never to both."""
        taken: list[Task] = []
        while self._incoming:
            try:
                taken.append(self._incoming.popleft())
            except IndexError:  # the loop was quicker
                break
        return taken

    def call_soon(self, callback: Callable[..., object], *args: Any) -> None:
        """Run a callback on the loop's thread; nothing happens when it has ended, or has not begun (it looks first)."""
        if self.loop is None:
            return
        try:
            self.loop.call_soon_threadsafe(callback, *args)
        except RuntimeError:  # closed: there is nobody on it to tell anything
            logger.debug("tracekeeper: engine loop is closed already")

    def leave(self) -> None:
        """Take no new calls and end when the last one has."""
        self.leaving = True
        self.call_soon(self._end_if_empty)

    def current(self) -> asyncio.Task[Any] | None:
        """The task whose step is running."""
        import asyncio

        return asyncio.current_task(self.loop) if self.loop is not None else None

    def blocker(self) -> Task | None:
        """The call whose step is running; ``None`` when it is a bare callback."""
        return getattr(self.current(), "owner", None)

    def places(self, asyncio_task: asyncio.Task[Any] | None) -> stacks.Places:
        """Where a task is (in its running step, or where it waits); without one, where the loop's thread is."""
        if asyncio_task is None or self.current() is asyncio_task:
            return stacks.of_thread(self.ident)
        return stacks.of_coroutine(asyncio_task.get_coro())

    def blocked_by(self, now: float, silence: float) -> Task | None:
        """The call that has kept the loop from answering for that long, as far as can be told by now.

        ``None`` when the loop answers, and when no one call is to blame: a loop that merely gets no processor time is
        between two steps at most looks.
        """
        if self._answered or now - self._pinged_at < silence or not self._suspect_since:
            return None
        current = self.current()
        if current is None or current is not self._suspect or now - self._suspect_since < silence / 2:
            return None
        return self.blocker()

    def heartbeat(self, now: float) -> bool:
        """Send or check the heartbeat (watchdog's thread); true when the loop is blocked for good.

        Blocked means: no answer for ``SILENCE``, and the same task's step was running at every look in that time. A
        loop that is merely slow because hundreds of tasks compute shows another one at each look, and is left alone.
        """
        if self._answered:
            self._suspect_since = 0.0
            if self.tasks or self._incoming:
                self._answered = False
                self._pinged_at = now
                self.call_soon(self._answer)
            return False
        current = self.current()  # None: a bare callback, or just between two steps
        if current is not self._suspect or not self._suspect_since:
            self._suspect, self._suspect_since = current, now
        enough = SILENCE if current is not None else 2 * SILENCE
        return now - self._pinged_at >= enough and now - self._suspect_since >= enough * 0.8

    # -- on the loop's thread ----------------------------------------------------------------------------------

    def _answer(self) -> None:
        self._answered = True

    def _take(self) -> None:
        self._signalled = False
        while self._incoming:
            try:
                task = self._incoming.popleft()
            except IndexError:
                break
            self._begin(task)

    def _begin(self, task: Task) -> None:
        from tracekeeper.concurrency import engine_task

        assert self.loop is not None
        context = task.context
        if context is None:  # settled before it began
            discard(task.awaitable)
            return
        # A copy per attempt: a context cannot be entered twice at once, and a blocked attempt is still inside its own.
        context = context.copy()
        context.run(engine_task.call.set, task)
        if task.awaitable is None:
            task.runner.begin(task, self)
        else:  # a worker called it and it returned this awaitable: the same attempt goes on
            task.place = self
        # Not `create_task`: a call may have given the loop a task factory of its own, which may refuse ours.
        asyncio_task = engine_task.EngineTask(
            self._drive(task, task.epoch), loop=self.loop, context=context, name=task.name
        )
        self.tasks[asyncio_task] = task
        task.coroutine = asyncio_task
        asyncio_task.add_done_callback(self._ended)

    def _ended(self, asyncio_task: asyncio.Task[Any]) -> None:
        task = self.tasks.pop(asyncio_task, None)
        if task is not None:
            if task.coroutine is asyncio_task:
                task.coroutine = None  # each has the other: only the collector would find them
            task.runner.coroutine_ended(asyncio_task)
        if self.leaving:
            self._end_if_empty()

    def _over(self) -> bool:
        return self.leaving and not self.tasks and not self._incoming

    def _end_if_empty(self) -> None:
        if self._over() and self.loop is not None:
            self.loop.stop()

    def _run(self) -> None:
        import asyncio

        from tracekeeper.concurrency.engine_task import EngineTask

        self.ident = threading.get_ident()
        try:
            loop = asyncio.new_event_loop()
        except Exception as error:  # noqa: BLE001  no file descriptors left
            logger.warning("tracekeeper cannot make an event loop: %s; it tries again", error)
            self._on_end(self)
            return
        loop.set_task_factory(lambda loop, coro, **kwargs: EngineTask(coro, loop=loop, **kwargs))
        asyncio.set_event_loop(loop)
        loop.call_soon(self._take)
        loop.call_soon(self._end_if_empty)
        loop.call_soon(self._answer)  # a heartbeat sent before there was a loop to answer it
        self.loop = loop  # from here on `call_soon` reaches it; what was put before is found by the first `_take`
        while True:
            try:
                loop.run_forever()
                if self._over():
                    break
                logger.warning("tracekeeper: a call stopped the engine loop that it ran on; the loop goes on")
            except BaseException as error:  # noqa: BLE001  SystemExit of a task that a call started: asyncio lets it through
                logger.warning("tracekeeper: %s left a task on an engine loop; the loop goes on", type(error).__name__)
        self._on_end(self)
        self._close(loop)

    @staticmethod
    def _close(loop: asyncio.AbstractEventLoop) -> None:
        import asyncio

        try:
            for left in asyncio.all_tasks(loop):  # started by calls and forgotten
                left.cancel()
            loop.run_until_complete(loop.shutdown_asyncgens())
        except BaseException as error:  # noqa: BLE001  what calls left behind may raise anything
            logger.debug("tracekeeper: while an engine loop ended: %r", error)
        finally:
            asyncio.set_event_loop(None)
            loop.close()


def discard(awaitable: Any) -> None:
    """Let go of an awaitable that nobody will await, without a warning that nobody awaited it."""
    close = getattr(awaitable, "close", None) or getattr(awaitable, "cancel", None)
    if close is not None:
        try:
            close()
        except BaseException as error:  # noqa: BLE001  it is the call's own code
            logger.debug("tracekeeper: an awaitable that was let go raised %r", error)
