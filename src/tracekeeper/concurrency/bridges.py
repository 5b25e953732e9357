"""From async to sync code and back: ``asyncify``, ``syncify``, ``run_sync``.

``asyncify`` runs sync code on a daemon thread. It has no limiter: with one, calls inside calls wait for the places of
those that wait for them. Threads are made as they are needed, and where the system gives no more, calls wait for one.

``syncify`` and ``run_sync`` run async code on an event loop in a daemon thread, the same for all callers, so that a
client which keeps connections between calls finds its loop again. A coroutine that blocks this loop cannot hold up the
others for long: new calls go to a new loop, those on the blocked one go on when it comes back.

Blocking calls may be nested: a coroutine on the loop may call a sync function that calls ``run_sync``. The inner one
needs a loop that is not blocked by the outer one, so there is a loop for each level of blocking.
"""

from __future__ import annotations

import asyncio
import contextvars
import functools
import inspect
import logging
import queue
from collections.abc import Awaitable, Callable, Coroutine
from contextvars import ContextVar
from functools import partial
from typing import Any, ParamSpec, TypeVar

from tracekeeper.concurrency.loops import discard
from tracekeeper.concurrency.outcome import Outcome
from tracekeeper.concurrency.runner import Runner
from tracekeeper.concurrency.shapes import describe, is_async, is_awaitable
from tracekeeper.concurrency.task import Task
from tracekeeper.concurrency.waits import get

logger = logging.getLogger("tracekeeper")

P = ParamSpec("P")
T = TypeVar("T")

UNLIMITED = 1 << 62
HELD_LIMIT = 1000
"""Threads that abandoned calls may hold before the next call is refused."""
START_WITHIN = 30.0
"""Seconds that a call waits for one of them to come back."""

_threads: list[Runner] = []
_levels: list[Runner] = []
_level: ContextVar[int] = ContextVar("tracekeeper_blocking_level", default=0)


def asyncify(fn: Callable[P, T]) -> Callable[P, Coroutine[Any, Any, T]]:
    """An async function that runs a sync one on a daemon thread. Also a decorator.

    The whole context goes along, and comes back no more than from ``asyncio.to_thread``. It has no limit on the number
    of calls, works from any number of event loops and nested to any depth. A call that is cancelled returns at once;
    its thread goes on, is counted, and never keeps the process from exiting. An async function is returned as it is.

    Parameters
    ----------
    fn:
        A sync callable.

    Raises
    ------
    TypeError
        It is not callable.
    RuntimeError
        From a call: a thousand threads are held by calls that were cancelled and did not come back within 30 s.

    Example
    -------
    >>> import asyncio, time
    >>> @asyncify
    ... def fetch(page, pause=0.01):
    ...     time.sleep(pause)  # blocks a thread of its own, not the loop
    ...     return f"page {page}"
    >>> async def main():
    ...     return await asyncio.gather(fetch(1), fetch(2))
    >>> asyncio.run(main())
    ['page 1', 'page 2']
    """
    if not callable(fn):
        raise TypeError(f"asyncify takes a callable, not {fn!r}")
    if is_async(fn):
        return fn  # type: ignore[return-value]

    @functools.wraps(fn)
    async def on_a_thread(*args: P.args, **kwargs: P.kwargs) -> T:
        loop = asyncio.get_running_loop()
        arrived: asyncio.Future[Outcome[T]] = loop.create_future()
        task = _thread_runner().start(
            partial(fn, *args, **kwargs),
            timeout=None,
            done=partial(_hand_over, loop, arrived),
            name=describe(fn),
            start_within=START_WITHIN,
            asynchronous=False,
        )
        try:
            outcome = await arrived
        except asyncio.CancelledError:
            task.cancel("the call was cancelled")
            raise
        result: T = _result(outcome)
        return result

    return on_a_thread


def syncify(fn: Callable[P, Awaitable[T]]) -> Callable[P, T]:
    """A sync function that runs an async one and waits for its result. Also a decorator.

    It may be called in any thread, and inside a running event loop, which it blocks meanwhile. The coroutine runs on an
    event loop in a daemon thread, with a copy of the caller's whole context. Exceptions are the function's own, with
    their traceback.

    Parameters
    ----------
    fn:
        An async callable, or one that returns an awaitable.

    Raises
    ------
    TypeError
        It is not callable, or is an (async) generator function: ``async for`` has no sync twin here.

    Example
    -------
    >>> import asyncio
    >>> @syncify
    ... async def double(number):
    ...     await asyncio.sleep(0.01)
    ...     return 2 * number
    >>> double(21)
    42
    >>> async def main():
    ...     return double(4)  # inside a running loop as well
    >>> asyncio.run(main())
    8
    """
    if not callable(fn):
        raise TypeError(f"syncify takes a callable, not {fn!r}")
    if inspect.isasyncgenfunction(fn) or inspect.isgeneratorfunction(fn):
        raise TypeError(f"syncify takes an async function, and {describe(fn)} is a generator function")

    @functools.wraps(fn)
    def waiting(*args: P.args, **kwargs: P.kwargs) -> T:
        result: T = _wait(partial(fn, *args, **kwargs), None, describe(fn))
        return result

    return _seen_as_sync(waiting)


def run_sync(call: Awaitable[T] | Callable[[], Awaitable[T] | T], *, timeout: float | None = None) -> T:
    """Run a coroutine, or an async function of no arguments, and wait for its result.

    As ``asyncio.run``, but it may be called in any thread, and inside a running event loop, which it blocks meanwhile
    (no patching of asyncio). All calls share one event loop in a daemon thread, so clients that keep connections go on
    working from one call to the next. Ctrl-C cancels the coroutine.

    Parameters
    ----------
    call:
        A coroutine or another awaitable, or a callable that gives one.
    timeout:
        Seconds from its beginning; then it is cancelled. ``None``: no deadline.

    Raises
    ------
    TimeoutError
        The deadline came; the message says where it was.
    TypeError
        It is neither awaitable nor callable.
    RuntimeError
        It is a task or future of the very loop that this would block: it could never end.

    Example
    -------
    >>> import asyncio
    >>> run_sync(asyncio.sleep(0.01, "done"))
    'done'
    """
    if is_awaitable(call):
        loop = _running_loop()
        if loop is not None and isinstance(call, asyncio.Future) and call.get_loop() is loop:
            raise RuntimeError("run_sync would block the event loop that its task needs: await it instead")
        awaitable = call
        try:
            result: T = _wait(lambda: awaitable, timeout, describe(getattr(call, "cr_code", call)))
        except BaseException:
            _discard_if_unused(awaitable)
            raise
        return result
    if not callable(call):
        raise TypeError(f"run_sync takes a coroutine or a callable, not {call!r}")
    return _wait(call, timeout, describe(call))  # type: ignore[no-any-return]


def _discard_if_unused(awaitable: Any) -> None:
    """Close a coroutine that never began."""
    if inspect.iscoroutine(awaitable) and inspect.getcoroutinestate(awaitable) == inspect.CORO_CREATED:
        discard(awaitable)


def abandoned() -> tuple[int, int]:
    """Threads and loops that are held by calls of ``asyncify``, ``syncify`` and ``run_sync`` which nobody awaits."""
    held = [runner.abandoned() for runner in (*_threads, *_levels)]
    return sum(threads for threads, _ in held), sum(loops for _, loops in held)


def _wait(call: Callable[[], Any], timeout: float | None, name: str) -> Any:
    arrived: queue.SimpleQueue[Outcome[Any]] = queue.SimpleQueue()
    level = _free_level()
    context = contextvars.copy_context()
    context.run(_level.set, level)
    task: Task = _loop_runner(level).start(
        call,
        timeout=timeout,
        done=arrived.put,
        name=name,
        context=context,
        start_within=START_WITHIN,
        asynchronous=True,
        stays=True,
    )
    try:
        outcome = get(arrived)
    except BaseException:  # Ctrl-C
        task.cancel("the caller was interrupted")
        raise
    return _result(outcome)


def _free_level() -> int:
    """The first level whose loop no caller of ours blocks."""
    level = _level.get()
    loop = _running_loop()
    if loop is not None:
        for number, runner in enumerate(_levels):
            if runner.has_loop(loop):
                return max(level, number + 1)
    return level


def _running_loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


def _thread_runner() -> Runner:
    if not _threads:
        _threads.append(Runner(name="asyncify", concurrency=UNLIMITED, abandoned_limit=HELD_LIMIT))
    return _threads[0]


def _loop_runner(level: int) -> Runner:
    while len(_levels) <= level:  # two threads may both add one: it serves the next level, or nobody
        _levels.append(Runner(name="run-sync", concurrency=UNLIMITED, abandoned_limit=HELD_LIMIT))
    return _levels[level]


def _hand_over(loop: asyncio.AbstractEventLoop, future: asyncio.Future[Any], outcome: Outcome[Any]) -> None:
    def deliver() -> None:
        if not future.done():
            future.set_result(outcome)

    try:
        loop.call_soon_threadsafe(deliver)
    except RuntimeError:  # closed, so nobody waits
        logger.debug("tracekeeper: the loop of an asyncified call was closed before its result came")


def _result(outcome: Outcome[Any]) -> Any:
    try:
        return outcome.unwrap()
    finally:
        del outcome  # it holds the exception, whose traceback holds this frame


def _seen_as_sync(wrapper: Callable[P, T]) -> Callable[P, T]:
    """Take off what a copied ``__dict__`` and copied annotations say about the function inside."""
    held = vars(wrapper)
    for mark in ("_is_coroutine", "_is_coroutine_marker"):
        held.pop(mark, None)
    if is_async(wrapper):  # `def fetch() -> Awaitable[int]`
        wrapper.__annotations__ = {name: kind for name, kind in wrapper.__annotations__.items() if name != "return"}
    return wrapper
