"""``tk.as_completed``: scores one after the other, in the order in which they settle.

It is a wait like the others (see :mod:`~tracekeeper.scoring.waiting`): it registers with each record before it looks at
it, so no settling is missed, has one deadline for everything, and looks up records of other processes. What it adds is
that each score is given out as soon as it is final, once; at the deadline the others are given out as they stand.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from queue import Empty
from typing import TYPE_CHECKING, Any

import msgspec

from tracekeeper.concurrency.waits import get
from tracekeeper.scoring.record import Record
from tracekeeper.scoring.waiting import RecordsWait, _Wait
from tracekeeper.types import ConfigurationError, MetricMode, Score, ScoreStatus

if TYPE_CHECKING:
    from tracekeeper.scoring.app import App, AppFunction

log = logging.getLogger("tracekeeper")


class Completed(Score, frozen=True):
    """A score, and the ``record`` that it judges."""

    record: Any = None


class Completions:
    """What ``tk.as_completed`` gives: to be iterated over, sync or async. Each iteration is a wait of its own."""

    def __init__(
        self,
        records: RecordsWait | AppFunction[..., Any] | Iterable[Record],
        names: Sequence[str] | None,
        timeout: float | None,
    ) -> None:
        self._source = _source(records)
        self._names = names
        self._timeout = timeout
        self._begun(())  # what cannot work is said now, not at the first step

    def _records(self) -> list[Record]:
        source = self._source
        return list(dict.fromkeys(source.records if isinstance(source, RecordsWait) else source))

    def _begun(self, records: Iterable[Record]) -> _Gathering:
        return _Gathering(records, self._names, self._timeout)

    def __iter__(self) -> Iterator[Completed]:
        wait = self._begun(self._records())
        try:
            lacking = wait.begin()
            while True:
                while wait.ready:
                    yield wait.ready.popleft()
                if not lacking or (patience := wait.patience()) <= 0:
                    break
                try:
                    poked = get(wait.pokes, patience)
                except Empty:
                    poked = None
                lacking = wait.look(poked)
            yield from wait.left()
        finally:
            wait.forget()

    async def __aiter__(self) -> AsyncIterator[Completed]:
        import asyncio

        wait = self._begun(self._records())
        loop, heard = asyncio.get_running_loop(), asyncio.Event()

        def poke(record: Record | None) -> None:
            wait.pokes.put(record)
            try:
                loop.call_soon_threadsafe(heard.set)
            except RuntimeError:  # the loop was closed while we waited: nobody listens any more
                log.debug("a score settled after the loop that waited for it was closed")

        wait.poke = poke
        foreign = any(not record.local for record in wait.records)
        try:
            lacking = await asyncio.to_thread(wait.begin) if foreign else wait.begin()
            while True:
                while wait.ready:
                    yield wait.ready.popleft()
                if not lacking or (patience := wait.patience()) <= 0:
                    break
                try:
                    async with asyncio.timeout(patience):
                        await heard.wait()
                except TimeoutError:
                    lacking = await asyncio.to_thread(wait.look, None)
                    continue
                heard.clear()
                while lacking:
                    try:
                        lacking = wait.look(wait.pokes.get_nowait())
                    except Empty:
                        break
            for one in await asyncio.to_thread(wait.left) if foreign else wait.left():
                yield one
        finally:
            wait.forget()

    def __repr__(self) -> str:
        return f"<scores of {len(self._records())} records as they are completed>"


class _Gathering(_Wait):
    """A wait that remembers what it has given out."""

    def __init__(self, records: Iterable[Record], names: Sequence[str] | None, timeout: float | None) -> None:
        super().__init__(records, names, timeout)
        self.ready: deque[Completed] = deque()
        self._given: set[tuple[bytes, str]] = set()

    def begin(self) -> bool:
        lacking = super().begin()
        # Those that were final before are put into their order; from here on they come in it.
        self.ready = deque(sorted(self.ready, key=lambda one: one.settled_at or 0.0))
        return lacking

    def _consider(self, record: Record) -> None:
        scores = record.scores_named(self.names)  # the one look at the store, for records of other processes
        self._gather(record, scores, final=True)
        if record.settled_with(scores, self.names):
            self.lacking.discard(record)
            self.foreign.discard(record)
        else:
            self.lacking.add(record)
            if not record.local:
                self.foreign.add(record)

    def left(self) -> list[Completed]:
        """At the end: what has not been given out, final or not."""
        for record in self.records:
            if record in self.lacking:
                scores = {**_unborn(record, self.names), **record.scores_named(self.names)}
                self._gather(record, scores, final=False)
        found = list(self.ready)
        self.ready.clear()
        return found

    def _gather(self, record: Record, scores: dict[str, Score], *, final: bool) -> None:
        fresh = [
            score
            for name, score in scores.items()
            if (record.key, name) not in self._given and (score.final or not final)
        ]
        for score in sorted(fresh, key=lambda one: one.settled_at or 0.0):
            self._given.add((record.key, score.name))
            self.ready.append(Completed(**msgspec.structs.asdict(score), record=record))

    def forget(self) -> None:
        for record in self.records:
            record.forget(self)


def _unborn(record: Record, names: Sequence[str] | None) -> dict[str, Score]:
    """The scores that a call of an app will have when it ends: a stream may still be open."""
    app = getattr(record._state, "app", None)
    if record._closed or app is None:
        return {}
    return {
        name: Score(
            status=ScoreStatus.PENDING,
            reason="the call has not ended",
            name=name,
            metric_version=metric.version,
            source=metric.source,
        )
        for metric in app.metrics
        if metric.mode not in (MetricMode.OFF, MetricMode.DEFERRED)
        for name in metric.names
        if names is None or name in names
    }


def as_completed(
    records: RecordsWait | App[..., Any] | AppFunction[..., Any] | Iterable[Record],
    *,
    names: Sequence[str] | None = None,
    timeout: float | None = None,
) -> Completions:
    """Scores in the order in which they settle: ``for score in tk.as_completed(records)``, or ``async for``.

    Each score comes exactly once, as soon as it is final, with ``score.record``. It ends when every score is final; at
    the deadline it gives the others with the status that they have then (``pending``, ``running``), and ends.

    Parameters
    ----------
    records:
        Records, a recording, or an app: those it has when the iteration begins. Records that another process judges,
        and stored ones (``tk.records()``), are looked up.
    names:
        Only these scores. Default: all but deferred ones, which workers settle.
    timeout:
        Seconds for everything together, from the first step. Default: the sum of what the metrics allow themselves.

    Raises
    ------
    ConfigurationError
        Something that is no record, or a timeout that is no number of seconds.
    MetricError
        A name that no metric of a record has; the nearest one is named.

    Example
    -------
    >>> import tracekeeper as tk
    >>> def short(output):
    ...     return len(output) < 40
    >>> record = tk.log_record(input="weather?", output="mild", app="demo", metrics=[short])
    >>> [(score.name, score.value, score.record is record) for score in as_completed([record])]
    [('short', True, True)]
    """
    return Completions(records, names, timeout)


def _source(records: Any) -> RecordsWait | list[Record]:
    known = getattr(records, "app", records)
    if isinstance(records, Record):
        return [records]
    if isinstance(known, RecordsWait):
        return known
    if isinstance(records, str) or not isinstance(records, Iterable):
        raise ConfigurationError(f"as_completed({records!r}): expected records, a recording or an app")
    found = list(records)
    for one in found:
        if not isinstance(one, Record):
            raise ConfigurationError(f"as_completed: expected records, got {type(one).__name__}: {one!r}")
    return found
