"""The executor that makes calls on workers in other processes, whichever engine has them.

Home keeps the books. The run's own call opens the item's record here, and in it, in the place of the task, runs a
stand-in for the task, which sends the arguments to a worker and waits for what comes of it. So records, retries,
Ctrl-C, progress and metrics are those of every run; only the inside of the task is somewhere else.

A coroutine here waits for a place first, and opens the record then: a call that waits has not begun. When its worker is
lost, its record ends ``interrupted`` and the call is made again, as a new record, ``LOSSES`` times at most.
"""

from __future__ import annotations

import asyncio
import contextvars
import functools
import inspect
import pickle
from collections.abc import AsyncIterator, Callable, Iterator
from contextvars import ContextVar
from typing import Any

import msgspec

from tracekeeper.concurrency import Outcome
from tracekeeper.concurrency.mapping import HELD_LIMIT, Call, Event, Map, MapRunner
from tracekeeper.concurrency.shapes import describe
from tracekeeper.concurrency.task import Task
from tracekeeper.configuration import settings
from tracekeeper.evaluation.executors.elsewhere import messages
from tracekeeper.evaluation.executors.elsewhere.engine import Engine
from tracekeeper.evaluation.executors.elsewhere.flights import Flight, Stopped
from tracekeeper.evaluation.executors.elsewhere.messages import Chunk, Ended, Lost, Order, Setup
from tracekeeper.evaluation.executors.elsewhere.places import START_WITHIN, Places
from tracekeeper.evaluation.executors.executor import Told
from tracekeeper.evaluation.executors.local import LocalExecutor
from tracekeeper.scoring.isolated import as_sent
from tracekeeper.tracing import elsewhere, failures, runtime, tracking
from tracekeeper.tracing.spans import Span
from tracekeeper.types import ConfigurationError, SpanStatus, WorkerLostError

LOSSES = 2
"""How often a call is made again whose worker was lost."""

_flight: ContextVar[Attempts] = ContextVar("tracekeeper_flight")


class Overdue(asyncio.CancelledError):
    """A call was given up at its deadline."""


class RemoteExecutor(LocalExecutor):
    """Calls on the workers of an engine.

    Parameters
    ----------
    engine:
        See ``elsewhere.engine``.
    concurrency, timeout, retries:
        As of ``tk.evaluate``; the calls are spread over the workers.
    workers:
        How many; default: what the engine has room for. Never more than ``concurrency``.
    start_within:
        Seconds without any worker, at the beginning or when all were lost, after which the run ends with what it has
        (a resume does the rest). ``None``: it waits as long as it takes.
    """

    def __init__(
        self,
        engine: Engine,
        *,
        concurrency: int,
        timeout: float | None,
        retries: int,
        workers: int | None = None,
        start_within: float | None = START_WITHIN,
    ) -> None:
        super().__init__(concurrency=concurrency, timeout=timeout, retries=retries)
        if workers is not None and (isinstance(workers, bool) or not isinstance(workers, int) or workers < 1):
            raise ConfigurationError(f"workers={workers!r}: expected a whole number, 1 or more")
        self.trouble: str | None = None
        """Why it could not make all calls."""
        self._engine = engine
        if start_within is not None and (
            isinstance(start_within, bool) or not isinstance(start_within, int | float) or not start_within > 0
        ):
            raise ConfigurationError(
                f"start_within={start_within!r}: expected a number of seconds, or None for no limit"
            )
        self._workers = workers
        self._start_within = start_within
        self._task = b""
        self._places: Places | None = None

    def sent(self, task: Callable[..., Any]) -> Callable[..., Any]:
        """The task as it is called here: it has the other one's signature, and makes the call on a worker.

        Raises
        ------
        ConfigurationError
            The task cannot be pickled.
        """
        try:
            self._task = self._engine.dumps(task)
        except Exception as error:
            said = str(error).strip().splitlines()[:1]
            why = f"{type(error).__name__}: {said[0][:200]}" if said else type(error).__name__
            raise ConfigurationError(
                f"the task {describe(task)!r} cannot be sent to {self._engine.name} workers ({why}); "
                "make what it holds inside of it, or at the top level of a module that can be imported there"
            ) from error
        streams = inspect.isgeneratorfunction(task) or inspect.isasyncgenfunction(task)
        made = _streaming if streams else _called
        return functools.update_wrapper(made(), task, updated=())

    def run(self, calls: Iterator[Call], total: int, told: Told) -> None:
        """See ``Executor``."""
        if not total:
            return
        places = self._begin(total)
        try:
            super().run(calls, total, told)
        except KeyboardInterrupt:
            places.close(at_once=True)  # the second one: nobody waits for anything any more
            raise
        finally:
            places.close()

    async def arun(self, calls: Iterator[Call], total: int, told: Told) -> None:
        """See ``Executor``."""
        if not total:
            return
        places = await asyncio.to_thread(self._begin, total)
        try:
            await super().arun(calls, total, told)
        finally:
            await asyncio.shield(asyncio.to_thread(places.close))

    def _begin(self, total: int) -> Places:
        count = max(1, min(self._workers or self._engine.room(), self.concurrency, total))
        keeper = runtime.keeper()
        dumps = messages.by_value = self._engine.dumps
        setup = Setup(self._task, as_sent(keeper, settings(), dumps), -(-self.concurrency // count), self.timeout)
        self._places = Places(
            self._engine, setup, count=count, keeper=keeper, failed=self._failed, start_within=self._start_within
        )
        self._places.start()
        return self._places

    def _failed(self, reason: str) -> None:
        self.trouble = reason
        self.stop(reason)

    def _map(
        self, calls: Iterator[Call], total: int | None, post: Callable[[Event], Any], runner: MapRunner | None = None
    ) -> Map:
        assert self._places is not None
        state = super()._map(calls, total, post, runner or RemoteRunner(self._places, concurrency=self.concurrency))
        if self.trouble is not None:  # sooner than there was a map to stop
            state.stop(self.trouble)
        return state


class RemoteRunner(MapRunner):
    """The runner of a map whose calls wait here, as coroutines, for what other processes do."""

    def __init__(self, places: Places, *, concurrency: int) -> None:
        super().__init__(name="remote", concurrency=concurrency, abandoned_limit=max(HELD_LIMIT, concurrency))
        self._places = places

    def start(
        self,
        call: Callable[[], Any],
        *,
        timeout: float | None,
        done: Callable[[Outcome[Any]], None],
        name: str = "",
        context: contextvars.Context | None = None,
        restartable: bool = False,
        start_within: float | None = None,
        asynchronous: bool | None = None,
        stays: bool = False,
    ) -> Task:
        """As of a runner; the deadline is the worker's, which begins when the call does."""
        attempts = Attempts(self._places, call)
        return super().start(
            attempts.made,
            timeout=None,
            done=lambda outcome: done(attempts.told(outcome)),
            name=name,
            context=context,
            asynchronous=True,
        )

    def cancel_pending(self, reason: str) -> int:
        """Also what waits for a place has not begun."""
        self._places.stop(reason)
        return super().cancel_pending(reason)


class Attempts:
    """A call, and how often its workers were lost."""

    def __init__(self, places: Places, call: Callable[[], Any]) -> None:
        self._places = places
        self._call = call
        self._lost: list[str] = []
        self._begun = 0
        self._ended: Ended | None = None
        self._span: Span | None = None
        self.flight: Flight | None = None

    async def made(self) -> Any:
        """Make it, and again when its worker is lost."""
        _flight.set(self)
        while True:
            flight = self.flight = Flight(alone=bool(self._lost))
            try:
                self._places.ask(flight)
                place = await flight.heard()
                if isinstance(place, Stopped):
                    raise place
                self._begun += 1
                result = self._call()
                return await result if inspect.isawaitable(result) else result
            except WorkerLostError as error:
                self._lost.append(str(error))
                if len(self._lost) > LOSSES:
                    raise
            finally:
                self._places.over(flight)

    def send(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Send the call to its worker, below the record that is open here."""
        flight = self.flight
        assert flight is not None
        here = elsewhere.above()
        above, self._span = here if here is not None else (None, None)
        order = Order(flight.number, _dumped(args, kwargs), above)
        self._places.send(flight, order, None if self._span is None else self._span.record_state)

    async def hear(self) -> Chunk | Ended:
        """A chunk that it yielded, or its end.

        Raises
        ------
        WorkerLostError
            Its worker is gone. The record has ended.
        """
        flight, span = self.flight, self._span
        assert flight is not None
        message = await flight.heard()
        if isinstance(message, Lost):
            lost = WorkerLostError(message.reason)
            if span is not None:
                span.failure = failures.info(lost)
                span.close(SpanStatus.INTERRUPTED)
            raise lost
        if isinstance(message, Ended):
            self._ended = message
            if span is not None and message.said is not None:
                elsewhere.say(span, message.said)
            for tracker in tracking.active():
                tracker.include(message.usage)
        return message  # type: ignore[no-any-return]

    def told(self, outcome: Outcome[Any]) -> Outcome[Any]:
        """What became of it, where it was made."""
        ended, error = self._ended, outcome.error
        before = tuple(self._lost[: self._begun - 1] if self._begun else ())
        changes: dict[str, Any] = {"attempts": self._begun, "interruptions": before}
        if ended is not None:
            changes["seconds"] = ended.seconds
            changes["reason"] = ended.reason or outcome.reason
        if isinstance(error, Stopped):
            # Nothing of it runs; where its worker was lost it is made by a resume, like all that had begun.
            changes.update(status="cancelled", error=None, reason=str(error), seconds=0.0)
        elif isinstance(error, Overdue):
            changes.update(status="timed_out", error=None)
        elif isinstance(error, WorkerLostError):
            changes["reason"] = f"{len(self._lost)} workers were lost while they made it; the last: {error}"
        return msgspec.structs.replace(outcome, **changes)


def _called() -> Callable[..., Any]:
    async def task(*args: Any, **kwargs: Any) -> Any:
        attempts = _flight.get()
        attempts.send(args, kwargs)
        chunks: list[Any] = []
        while isinstance(message := await attempts.hear(), Chunk):
            chunks.append(pickle.loads(message.value))
        value = _value(message)
        return _joined(chunks) if chunks else value

    return task


def _streaming() -> Callable[..., Any]:
    async def task(*args: Any, **kwargs: Any) -> AsyncIterator[Any]:
        attempts = _flight.get()
        attempts.send(args, kwargs)
        while isinstance(message := await attempts.hear(), Chunk):
            yield pickle.loads(message.value)
        _value(message)

    return task


def _joined(chunks: list[Any]) -> Any:
    """A stream that nobody could tell from a plain function before it was called: as records show streams."""
    return "".join(chunks) if all(isinstance(chunk, str) for chunk in chunks) else chunks


def _value(ended: Ended) -> Any:
    """What it returned, or raise what it raised."""
    match ended.status:
        case "ok":
            return pickle.loads(ended.value)
        case "timed_out":
            raise Overdue(ended.reason)
        case "cancelled":
            raise asyncio.CancelledError(ended.reason)
        case _:
            if not ended.error:
                raise WorkerLostError(ended.reason or "it could not begin on its worker")
            raise messages.loaded_error(ended.error, ended.traceback)


def _dumped(args: tuple[Any, ...], kwargs: dict[str, Any]) -> bytes:
    try:
        return pickle.dumps((args, kwargs))
    except Exception:
        if messages.by_value is None:
            raise
        return messages.by_value((args, kwargs))
