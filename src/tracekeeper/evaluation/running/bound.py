"""How the task is called with one item, and what it returns is read to its end."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

from tracekeeper.concurrency import Outcome
from tracekeeper.concurrency.shapes import awaited, is_awaitable
from tracekeeper.evaluation.accounts import because
from tracekeeper.evaluation.running.task_app import Attempt, Call
from tracekeeper.judging.binding import Parameters
from tracekeeper.judging.tasks import bind_task


class Bound:
    """A call without arguments, of any of the two kinds."""

    __slots__ = ("_attempt", "_call", "_function", "_wanted")

    def __init__(
        self,
        call: Call,
        function: Callable[..., Any],
        wanted: Parameters,
        *,
        asynchronous: bool,
    ) -> None:
        self._attempt = _async_attempt if asynchronous else _attempt
        self._call = call
        self._function = function
        self._wanted = wanted

    def __call__(self) -> Any:
        return self._attempt(self._call, self._function, self._wanted)

    def settled(self, outcome: Outcome[Any]) -> None:
        """An attempt has its outcome: one that is given up is not judged, however soon it returns from now on."""
        if outcome.status in ("timed_out", "cancelled") and self._call.attempt is not None:
            self._call.attempt.give_up(because(outcome.reason))


def _attempt(call: Call, function: Callable[..., Any], wanted: Parameters) -> Any:
    bound = bind_task(function, call.item.fields, wanted)
    with Attempt(call):
        made = bound()
    if is_awaitable(made) or isinstance(made, AsyncIterator):
        return _finished(made)
    return _read(made)


async def _async_attempt(call: Call, function: Callable[..., Any], wanted: Parameters) -> Any:
    bound = bind_task(function, call.item.fields, wanted)
    with Attempt(call):
        return await _finished(bound())


async def _finished(made: Any) -> Any:
    """What it gives in the end: also what was awaited may be a stream, whose text is the record's output."""
    if is_awaitable(made):
        made = await awaited(made)
    if isinstance(made, AsyncIterator):
        async for _ in made:
            pass
        return None
    return _read(made)


def _read(made: Any) -> Any:
    """What it gives; a stream ends when it is read, and its text is the record's output."""
    if isinstance(made, Iterator):
        for _ in made:
            pass
        return None
    return made
