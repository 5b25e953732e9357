"""What makes calls in another process, under the same deadline runner as at home, and tells what happens.

Any engine can host a ``Workplace``: it needs threads in which ``poll`` may wait while ``begin``, ``cancel`` and
``leave`` are called. User code never runs in those, so whatever it does the worker answers, unless C code holds the
interpreter lock; then it falls silent, and home ends it.

Messages are in order: all that a call traced, then its end.
"""

from __future__ import annotations

import contextvars
import os
import pickle
import queue
import socket
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from typing import Any

from tracekeeper.concurrency import Outcome
from tracekeeper.concurrency.mapping import HELD_LIMIT
from tracekeeper.concurrency.runner import Runner
from tracekeeper.concurrency.shapes import awaited, describe, is_async, is_awaitable
from tracekeeper.concurrency.task import Task
from tracekeeper.evaluation.executors.elsewhere import messages
from tracekeeper.evaluation.executors.elsewhere.messages import Chunk, Ended, Frame, Message, Order, Ready, Setup
from tracekeeper.scoring.isolated import settle_in
from tracekeeper.tracing import elsewhere, failures, runtime
from tracekeeper.tracing.elsewhere import Relay
from tracekeeper.tracing.spans import Span
from tracekeeper.tracing.tracking import UsageTotal, track_usage

BEAT = 0.5
"""Seconds after which ``poll`` answers although nothing happened."""
AT_ONCE = 1_000
"""Messages in one answer, at most."""


class Workplace:
    """Calls of one task.

    Parameters
    ----------
    setup:
        See ``Setup``. What is pickled in it is loaded by the first ``poll``.
    """

    def __init__(self, setup: Setup) -> None:
        self._setup = setup
        self._messages: queue.SimpleQueue[Message] = queue.SimpleQueue()
        self._loading = threading.Lock()
        self._loaded = False
        self._calls: dict[int, _Call] = {}

    def poll(self) -> list[Message]:
        """What happened since the last time; waits for something, at most ``BEAT``. The first answer is ``Ready``."""
        with self._loading:
            if not self._loaded:
                self._loaded = True
                return [Ready(self._load(), socket.gethostname(), os.getpid())]
        found: list[Message] = []
        try:
            found.append(self._messages.get(timeout=BEAT))
            while len(found) < AT_ONCE:
                found.append(self._messages.get_nowait())
        except queue.Empty:
            return found
        return found

    def begin(self, orders: Sequence[Order]) -> None:
        """Make these calls. Their ends are told by ``poll``."""
        for order in orders:
            call = self._calls[order.number] = _Call(self, order)
            call.task = self._runner.start(
                call.made,
                timeout=self._setup.timeout,
                done=call.done,
                name=self._name,
                context=contextvars.Context(),
                asynchronous=self._asynchronous,
            )

    def cancel(self, number: int) -> None:
        """Nobody wants what comes of a call."""
        call = self._calls.get(number)
        if call is not None and call.task is not None:
            call.task.cancel("it was cancelled")

    def leave(self, seconds: float) -> list[Message]:
        """The run is over: let scores that are computed here become final, end what is open, and say the last words."""
        runtime.shutdown(seconds)
        found: list[Message] = []
        while not self._messages.empty():
            found.append(self._messages.get())
        return found

    def _load(self) -> str | None:
        """Become the process that the task runs in. Why not, if not."""
        try:
            settle_in(self._setup.settings)
            self.task: Callable[..., Any] = pickle.loads(self._setup.task)
        except BaseException as error:  # noqa: BLE001  a module of the program's that is not here, or fails here
            return f"the task cannot be loaded on a worker: {failures.text_of(error)}"
        self.keeper: Relay = elsewhere.relay_to(lambda payload: self._messages.put(Frame(payload)))
        places = self._setup.places
        self._runner = Runner(name="worker", concurrency=places, abandoned_limit=max(HELD_LIMIT, places))
        self._name, self._asynchronous = describe(self.task), is_async(self.task)
        return None

    def tell(self, message: Message) -> None:
        """Have home know. Lock-free."""
        self._messages.put(message)

    def ended(self, call: _Call) -> int:
        """Forget a call; how many threads and loops are held by ones that did not come back."""
        self._calls.pop(call.number, None)
        return self._runner.held()


class _Call:
    """One call, in a context of its own."""

    __slots__ = ("_arguments", "_place", "_span", "_tracking", "_usage", "number", "task")

    def __init__(self, place: Workplace, order: Order) -> None:
        self.number = order.number
        self.task: Task | None = None
        self._place = place
        self._arguments = order.arguments
        self._usage = UsageTotal()
        self._span: Span | None = None if order.above is None else elsewhere.stand_in(order.above, place.keeper)

    def made(self) -> Any:
        """Make it, in the thread or on the loop where it belongs."""
        args, kwargs = pickle.loads(self._arguments)
        if self._span is not None:
            elsewhere.enter(self._span)
        self._tracking = track_usage()  # held, and never left: the context is this call's
        self._usage = self._tracking.__enter__()
        result = self._place.task(*args, **kwargs)
        if isinstance(result, Iterator):
            for chunk in result:
                self._place.tell(Chunk(self.number, messages.dumped(chunk)))
            return None
        if is_awaitable(result) or isinstance(result, AsyncIterator):
            return self._finished(result)
        return result

    async def _finished(self, result: Any) -> Any:
        if is_awaitable(result):
            result = await awaited(result)
        if isinstance(result, AsyncIterator):
            async for chunk in result:
                self._place.tell(Chunk(self.number, messages.dumped(chunk)))
            return None
        return result

    def done(self, outcome: Outcome[Any]) -> None:
        """It has an outcome: tell it."""
        said = None if self._span is None else elsewhere.said_of(self._span)
        value = messages.dumped(outcome.value) if outcome.ok else b""
        error, shown = (b"", "") if outcome.error is None else messages.dumped_error(outcome.error)
        held = self._place.ended(self)
        self._place.tell(
            Ended(
                self.number,
                outcome.status,
                value,
                error,
                shown,
                outcome.reason,
                outcome.seconds,
                said,
                self._usage,
                held,
            )
        )
