"""A function over many items at a time, where each item ends with an outcome in bounded time.

``parallel_map`` blocks its thread and ``aparallel_map`` awaits; ``Parallel`` takes pairs of a callable and its
arguments. All three have one state machine (``mapping.py``) and one deadline runner below it: sync functions run on
daemon threads, async ones on an event loop in a thread of its own, so nothing that an item does can hold up the caller.
"""

from __future__ import annotations

import asyncio
import queue
from collections.abc import AsyncIterable, Awaitable, Callable, Iterable, Iterator, Mapping, Sized
from functools import partial
from typing import Any, TypeVar, Unpack, overload

from tracekeeper.concurrency.interrupts import Interrupting
from tracekeeper.concurrency.map_events import AsyncEvents, Told, waited_for
from tracekeeper.concurrency.map_options import CONCURRENCY, TIMEOUT, MapOptions, check_options
from tracekeeper.concurrency.mapping import Call, Event, Map, MapRunner
from tracekeeper.concurrency.outcome import Outcome
from tracekeeper.concurrency.progress import Progress
from tracekeeper.concurrency.shapes import describe, is_async

Item = TypeVar("Item")
T = TypeVar("T")


@overload
def parallel_map(
    fn: Callable[[Item], Awaitable[T]], items: Iterable[Item], **options: Unpack[MapOptions[T]]
) -> list[Outcome[T]]: ...
@overload
def parallel_map(
    fn: Callable[[Item], T], items: Iterable[Item], **options: Unpack[MapOptions[T]]
) -> list[Outcome[T]]: ...
def parallel_map(
    fn: Callable[[Any], Any],
    items: Iterable[Any],
    *,
    concurrency: int = CONCURRENCY,
    timeout: float | None = TIMEOUT,
    retries: int = 0,
    on_result: Callable[[Outcome[Any]], object] | None = None,
    progress: bool | str = False,
) -> list[Outcome[Any]]:
    """Call ``fn`` with each item, many at a time, and return what became of each, in the order of the items.

    It may be called from any thread and inside a running event loop (which it then blocks; ``aparallel_map`` does
    not). Each call sees a copy of the caller's whole context. Nothing runs twice unless ``retries`` says so. Ctrl-C
    stops it: what is finished is returned, the rest is ``cancelled``; a second one raises ``KeyboardInterrupt``.

    Parameters
    ----------
    fn:
        A sync or async callable of one argument. Sync ones run on daemon threads, async ones on an event loop in a
        daemon thread, never on the caller's.
    items:
        Any iterable, iterated over in the calling thread and only as far ahead as there are places (at most 64 items).
    concurrency:
        Calls that run at the same time. One that timed out gives its place away.
    timeout:
        Seconds for each attempt, from its own beginning; ``None``: no deadline.
    retries:
        How often an item that raised or timed out is tried again, after a pause of 0.25, 0.5, 1, … at most 8 seconds.
    on_result:
        Called in the calling thread with each outcome as it comes, in order of completion. What it raises is logged
        and counted. It may be async.
    progress:
        Show a line on stderr; a string is its label. A bar in a notebook, below the cell, and where ``rich`` is
        installed and stderr is a terminal.

    Returns
    -------
    list[Outcome]
        One for each item: ``ok``, ``error``, ``timed_out`` or ``cancelled``, with value or error, attempts, seconds.
        After Ctrl-C, items of an iterable without a length that were not taken yet are in no list.

    Raises
    ------
    TypeError, ValueError
        Something is not callable, not iterable, or out of range; nothing was called.
    KeyboardInterrupt
        The second Ctrl-C.

    Example
    -------
    >>> def halve(number):
    ...     return 10 / number
    >>> outcomes = parallel_map(halve, [1, 2, 0], concurrency=2, timeout=5)
    >>> [(outcome.status, outcome.value) for outcome in outcomes]
    [('ok', 10.0), ('ok', 5.0), ('error', None)]
    >>> outcomes[2].error
    ZeroDivisionError('division by zero')
    """
    return Parallel(
        concurrency=concurrency, timeout=timeout, retries=retries, on_result=on_result, progress=progress
    )._run(_calls(fn, items), _length(items))


@overload
async def aparallel_map(
    fn: Callable[[Item], Awaitable[T]], items: Iterable[Item], **options: Unpack[MapOptions[T]]
) -> list[Outcome[T]]: ...
@overload
async def aparallel_map(
    fn: Callable[[Item], T], items: Iterable[Item], **options: Unpack[MapOptions[T]]
) -> list[Outcome[T]]: ...
async def aparallel_map(
    fn: Callable[[Any], Any],
    items: Iterable[Any],
    *,
    concurrency: int = CONCURRENCY,
    timeout: float | None = TIMEOUT,
    retries: int = 0,
    on_result: Callable[[Outcome[Any]], object] | None = None,
    progress: bool | str = False,
) -> list[Outcome[Any]]:
    """``parallel_map`` to be awaited. The event loop goes on meanwhile, whatever the items do.

    Parameters, result and errors are those of ``parallel_map``. The items' coroutines run on a loop of the map's own:
    what belongs to the caller's loop (a client session that was opened on it, a future) cannot be awaited there.
    ``on_result`` is called, and awaited, in the calling task. When that task is cancelled, what runs is cancelled too.

    Example
    -------
    >>> import asyncio
    >>> async def double(number):
    ...     await asyncio.sleep(0.01)
    ...     return 2 * number
    >>> async def main():
    ...     return [outcome.value for outcome in await aparallel_map(double, range(3), timeout=5)]
    >>> asyncio.run(main())
    [0, 2, 4]
    """
    return await Parallel(
        concurrency=concurrency, timeout=timeout, retries=retries, on_result=on_result, progress=progress
    )._arun(_calls(fn, items), _length(items))


class Parallel:
    """Calls of different callables, many at a time: the settings of a map, to be called with pairs.

    Parameters
    ----------
    concurrency, timeout, retries, on_result, progress:
        As of ``parallel_map``.

    Raises
    ------
    TypeError, ValueError
        A setting is out of range.

    Example
    -------
    >>> parallel = Parallel(concurrency=4, timeout=5)
    >>> outcomes = parallel([(pow, (2, 10)), (sorted, {"iterable": [2, 1]}), (len, "abc")])
    >>> [outcome.value if outcome.ok else outcome.status for outcome in outcomes]
    [1024, 'error', 3]
    """

    def __init__(
        self,
        *,
        concurrency: int = CONCURRENCY,
        timeout: float | None = TIMEOUT,
        retries: int = 0,
        on_result: Callable[[Outcome[Any]], object] | None = None,
        progress: bool | str = False,
    ) -> None:
        check_options(concurrency=concurrency, timeout=timeout, retries=retries, on_result=on_result)
        self.concurrency = concurrency
        self.timeout = timeout
        self.retries = retries
        self.on_result = on_result
        self.progress = progress

    def __call__(self, pairs: Iterable[tuple[Callable[..., Any], Any]]) -> list[Outcome[Any]]:
        """Make the calls and return what became of each, in the order of the pairs.

        Parameters
        ----------
        pairs:
            A callable and its arguments: a tuple for positional ones, a mapping for keywords, anything else is the only
            argument.

        Raises
        ------
        TypeError
            Something is not a pair of a callable and arguments. Pairs are looked at as they are taken.
        """
        return self._run(_paired(pairs), _length(pairs))

    async def acall(self, pairs: Iterable[tuple[Callable[..., Any], Any]]) -> list[Outcome[Any]]:
        """The same, awaited. As ``aparallel_map`` is to ``parallel_map``."""
        return await self._arun(_paired(pairs), _length(pairs))

    def _run(self, calls: Iterator[Call], total: int | None) -> list[Outcome[Any]]:
        events: queue.SimpleQueue[Event] = queue.SimpleQueue()
        state = self._map(calls, total, events.put)
        told = Told(self.on_result, self._shown(total))
        try:
            with Interrupting(state):
                state.fill()
                while not state.finished:
                    for event in waited_for(events):
                        outcome = state.take(event)
                        if outcome is not None:
                            told.sync(outcome)
                    state.fill()
            for outcome in state.rest():
                told.sync(outcome)
        finally:
            state.close()
            told.close()
        return state.outcomes

    async def _arun(self, calls: Iterator[Call], total: int | None) -> list[Outcome[Any]]:
        events = AsyncEvents(asyncio.get_running_loop())
        state = self._map(calls, total, events.put)
        told = Told(self.on_result, self._shown(total))
        try:
            with Interrupting(state):
                state.fill()
                while not state.finished:
                    await events.come()
                    while events.there:
                        outcome = state.take(events.there.popleft())
                        if outcome is not None:
                            await told.asynchronous(outcome)
                    state.fill()
            for outcome in state.rest():
                await told.asynchronous(outcome)
        finally:
            state.close()
            told.close()
        return state.outcomes

    def _map(
        self,
        calls: Iterator[Call],
        total: int | None,
        post: Callable[[Event], None],
        runner: MapRunner | None = None,
    ) -> Map:
        return Map(
            calls,
            total,
            concurrency=self.concurrency,
            timeout=self.timeout,
            retries=self.retries,
            post=post,
            runner=runner,
        )

    def _shown(self, total: int | None) -> Progress | None:
        if not self.progress:
            return None
        return Progress(self.progress if isinstance(self.progress, str) else "parallel", total)


def _calls(fn: Callable[[Any], Any], items: Iterable[Any]) -> Iterator[Call]:
    if not callable(fn):
        raise TypeError(f"the function of a map must be callable, not {fn!r}")
    taken = _iterator(items)
    name, asynchronous = describe(fn), is_async(fn)
    return (Call(partial(fn, item), name, asynchronous) for item in taken)


def _paired(pairs: Iterable[Any]) -> Iterator[Call]:
    return map(_pair, _iterator(pairs))


def _pair(pair: Any) -> Call:
    if not isinstance(pair, tuple | list) or len(pair) != 2 or not callable(pair[0]):
        raise TypeError(f"Parallel takes pairs of a callable and its arguments, not {pair!r}")
    fn, arguments = pair
    if isinstance(arguments, tuple):
        call = partial(fn, *arguments)
    elif isinstance(arguments, Mapping):
        call = partial(fn, **arguments)
    else:
        call = partial(fn, arguments)
    return Call(call, describe(fn), is_async(fn))


def _iterator(items: Iterable[Any]) -> Iterator[Any]:
    if isinstance(items, AsyncIterable):
        raise TypeError("a map takes an ordinary iterable; collect an async one first: [item async for item in items]")
    return iter(items)


def _length(items: Any) -> int | None:
    return len(items) if isinstance(items, Sized) else None
