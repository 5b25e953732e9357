"""``Record``: the handle on one call of an app and on its scores.

The same class whether the call was made in this process (it then knows the captured frames and is told of each score
as it settles) or was read from the store. ``born``, ``closed`` and ``of`` may run in a finaliser: they take no lock.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NoReturn, overload

from tracekeeper.scoring import stored
from tracekeeper.scoring.fields import Fields
from tracekeeper.scoring.waiting import OnScore, await_records, notify, wait_for_records
from tracekeeper.tracing import runtime
from tracekeeper.types import MetricError, MetricMode, Score, ScoreSource, ScoreStatus

if TYPE_CHECKING:
    from tracekeeper.journal.frames import ScoreBirth
    from tracekeeper.judging import Metric
    from tracekeeper.scoring.app import App
    from tracekeeper.scoring.stored import StoredRecord
    from tracekeeper.scoring.waiting import _Wait
    from tracekeeper.tracing.state import RecordState

KEEP_BYTES = 16_384
"""A settled record keeps captured texts up to this size in memory; larger ones are read back from the store."""

FOREIGN_ALLOWANCE = 60.0
"""Seconds a wait allows by default for a pending score whose metric this process does not know."""


class Record(Fields):
    """One call of an app (or, outside apps, one traced call without a local parent), and its scores.

    Obtained from ``recording.get()``, ``app.wait_for_scores()`` or ``tk.records()``; not made by hand.
    """

    __slots__ = ("_app", "_born", "_closed", "_elsewhere", "_open", "_scores", "waits")

    def __init__(self, trace: bytes, span: bytes) -> None:
        self.trace = trace
        self.span = span
        self.waits: list[_Wait] = []
        self._state = None
        self._stored = None
        self._app: App[..., Any] | None = None
        self._born: tuple[ScoreBirth, ...] = ()
        self._scores: dict[str, Score] = {}
        self._open: set[str] = set()  # names that this process still has to settle
        self._closed = False
        self._elsewhere = False  # known by its key only: everything is read from the store

    @classmethod
    def of(cls, state: RecordState) -> Record:
        """The one handle of a record of this process, until its scores are final."""
        record: Record | None = state.handle
        if record is None:
            record = cls(state.trace_id, state.span_id)
            record._state = state
            state.handle = record
        return record

    @classmethod
    def from_row(cls, row: StoredRecord) -> Record:
        """A record as the store has it."""
        record = cls(bytes.fromhex(row.trace_id), bytes.fromhex(row.span_id))
        record._stored = row
        record._closed = True
        return record

    @classmethod
    def of_key(cls, trace: bytes, span: bytes) -> Record:
        """A record that the store has, to be read when somebody asks for a field of it."""
        record = cls(trace, span)
        record._closed = record._elsewhere = True
        return record

    @classmethod
    def inert(cls) -> Record:
        """What a recording gives when tracing is disabled: a record of nothing, whose waits return at once."""
        record = cls(b"", b"")
        record._closed = True
        return record

    # Its scores.

    @property
    def scores(self) -> dict[str, Score]:
        """Every score by name, pending ones too. Of several by one name (versions, authors) the latest."""
        return self.scores_named(None, everything=True)

    def history(self, name: str) -> list[Score]:
        """Every attempt at a score, the oldest first: of all versions of its metric, and those that were replaced.

        Parameters
        ----------
        name:
            The score's name, as in ``scores``.

        Raises
        ------
        MetricError
            A name that no score of the record has; the nearest one is named.
        StoreError
            The database cannot be read.
        """
        if not self.trace:
            return []
        keeper = runtime.keeper()
        keeper.ship(timeout=5)
        found = stored.load_history(keeper, self.trace_id, self.span_id)
        if name not in found:
            self._refuse(name, found)
        return found[name]

    @overload
    def wait_for_scores(
        self, names: Sequence[str] | None = None, *, timeout: float | None = None
    ) -> dict[str, Score]: ...
    @overload
    def wait_for_scores(
        self,
        names: Sequence[str] | None = None,
        *,
        timeout: float | None = None,
        callback: Callable[[dict[str, Score]], object],
        on_score: OnScore | None = None,
    ) -> None: ...
    @overload
    def wait_for_scores(
        self, names: Sequence[str] | None = None, *, timeout: float | None = None, on_score: OnScore
    ) -> None: ...
    def wait_for_scores(
        self,
        names: Sequence[str] | None = None,
        *,
        timeout: float | None = None,
        callback: Callable[[dict[str, Score]], object] | None = None,
        on_score: OnScore | None = None,
    ) -> dict[str, Score] | None:
        """Wait until the record's scores are final, or ``timeout`` seconds are over; then what there is, with states.

        Never raises for what a metric did, never runs a metric again, never waits past its deadline.

        Parameters
        ----------
        names:
            Only these scores. Default: all but deferred ones.
        timeout:
            Seconds. Default: the sum of what the metrics allow themselves.
        callback, on_score:
            With either, return ``None`` at once; ``on_score(score)`` is called for each final score and
            ``callback(scores)`` once at the end, from a thread of Tracekeeper.

        Raises
        ------
        MetricError
            A name that no metric of the record has; the nearest one is named.
        """
        if callback is not None or on_score is not None:
            notify([self], names, timeout, callback, on_score, single=True)
            return None
        return wait_for_records([self], names, timeout)[0][1]

    async def await_scores(
        self, names: Sequence[str] | None = None, *, timeout: float | None = None
    ) -> dict[str, Score]:
        """The same without blocking the running loop."""
        return (await await_records([self], names, timeout))[0][1]

    # What waits ask (see waiting.py).

    @property
    def local(self) -> bool:
        """Whether this process settles its scores, and so tells its waits."""
        if self._elsewhere or self._stored is not None:
            return False
        return not any(b.mode == MetricMode.DEFERRED and b.status == "pending" for b in self._born)

    def check_names(self, names: Sequence[str] | None) -> None:
        """Refuse a name that nothing will ever settle, at once rather than after the whole timeout."""
        if names is None or not self._closed or not self.trace:
            return
        known = self.scores_named(None, everything=True)
        for name in names:
            if name not in known:
                self._refuse(name, known)

    def _refuse(self, name: str, known: Iterable[str]) -> NoReturn:
        near = difflib.get_close_matches(name, known, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else f"; it has: {', '.join(known) or 'none'}"
        raise MetricError(f"no score named {name!r} on record {self.name!r}{hint}")

    def settled(self, names: Sequence[str] | None) -> bool:
        """Whether the call has ended and the named scores are final."""
        if not self._closed:
            return self._app is None and (self._state is None or self._state.app is None)
        return self.settled_with(self.scores_named(names), names)

    def settled_with(self, scores: Mapping[str, Score], names: Sequence[str] | None) -> bool:
        """The same with scores that were just read."""
        return all(score.final for score in scores.values()) if self._closed else self.settled(names)

    def scores_named(self, names: Sequence[str] | None, *, everything: bool = False) -> dict[str, Score]:
        """The named scores (default: all but deferred ones) as they stand."""
        if self._stored is not None or not self.local:
            self._refresh()
        scores = self._scores.copy()
        if names is not None:
            return {name: scores[name] for name in names if name in scores}
        if everything:
            return scores
        deferred = {birth.name for birth in self._born if birth.mode == MetricMode.DEFERRED}
        return {name: score for name, score in scores.items() if name not in deferred}

    def allowance(self, names: Sequence[str] | None) -> float:
        """Seconds that its metrics allow themselves in all."""
        if self._app is not None:
            return self._app.allowance(names)
        if self._state is not None and self._state.app is not None:  # a stream that is still open
            return self._state.app.allowance(names)  # type: ignore[attr-defined,no-any-return]
        return sum(FOREIGN_ALLOWANCE for score in self.scores_named(names).values() if not score.final)

    def forget(self, wait: _Wait) -> None:
        """A wait is over."""
        if wait in self.waits:
            self.waits.remove(wait)

    # What the app and the engine tell it.

    def born(self, births: tuple[ScoreBirth, ...], app: App[..., Any]) -> None:
        """The call ends, and its metrics decided this. Lock-free."""
        self._app = app
        self._born = births
        for birth in births:
            self._scores[birth.name] = Score(
                status=ScoreStatus(birth.status),
                reason=birth.reason,
                name=birth.name,
                metric_version=birth.metric_version,
                source=ScoreSource(birth.source),
            )
            if birth.status == "pending" and birth.mode != MetricMode.DEFERRED:
                self._open.add(birth.name)
        if self._open:
            app.opened(self)

    def closed(self) -> None:
        """The call's end is in the journal. Lock-free."""
        self._closed = True
        if not self._open:
            self._finish()
        self._poke()

    def has_pending(self, metric: Metric) -> bool:
        """Whether this metric is to be run for it."""
        return any(name in self._open for name in metric.names)

    def settle(self, score: Score) -> None:
        """A score changed its status. Called by the engine, at most once with a final one for each name."""
        self._scores[score.name] = score
        if score.final:
            self._open.discard(score.name)
            if self._closed and not self._open:
                self._finish()
        self._poke()

    def note(self, score: Score) -> None:
        """A score came from elsewhere (``tk.score``)."""
        self._scores[score.name] = score
        self._poke()

    def _finish(self) -> None:
        if self._app is not None:
            self._app.settled(self)
        state = self._state
        if state is None:
            return
        state.handle = None  # each has the other: only the collector would find them
        if state.start is not None and state.end is not None:
            if len(state.start.input or b"") + len(state.end.output or b"") > KEEP_BYTES:
                self._state = None
            else:
                state.documents, state.spans, state.live_input, state.live_output = [], None, None, None

    def _poke(self) -> None:
        for wait in tuple(self.waits):
            wait.poke(self)

    def _refresh(self) -> None:
        if self.trace and (not self._scores or not all(score.final for score in self._scores.values())):
            self._scores.update(stored.load_scores(runtime.keeper(), self.trace_id, self.span_id))

    # How it looks.

    def print(self) -> None:
        """Print the record and its scores."""
        print(self.describe())

    def describe(self) -> str:
        """The record and its scores as text."""
        from tracekeeper.scoring.describe import describe

        return describe(self)

    def __repr__(self) -> str:
        if not self.trace:
            return "<Record: tracing is disabled>"
        version = f" {self.version}" if self.version else ""
        return f"<Record {self.name}{version} {self.status} {self.trace_id}:{self.span_id}>"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Record) and self.key == other.key

    def __hash__(self) -> int:
        return hash(self.key)
