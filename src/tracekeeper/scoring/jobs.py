"""A job: one metric on one record, from the moment it is known until its scores are final."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import msgspec

from tracekeeper.concurrency import is_async
from tracekeeper.scoring import stored, views
from tracekeeper.tracing import failures
from tracekeeper.types import Score, ScoreStatus, StoreError

if TYPE_CHECKING:
    from tracekeeper.judging import Metric, RecordView
    from tracekeeper.scoring.stored import StoredRecord
    from tracekeeper.tracing.keeper import Keeper
    from tracekeeper.tracing.state import RecordState

_ids = itertools.count()
_OURS = tuple(str(Path(__file__).parents[1] / room) for room in ("scoring", "concurrency"))


class Handle(Protocol):
    """Who is told of a record's scores."""

    def settle(self, score: Score) -> None:
        """A score changed its status; at most once to a final one for each name."""
        ...


class Attempt(msgspec.Struct, frozen=True):
    """What one attempt gave."""

    scores: list[tuple[str, Score]]
    retriable: bool = False
    """It raised something that another attempt might not."""


class Source:
    """Where a record's data are: its frames in memory, a row of the store, or only its key.

    Shared by the jobs of one record. ``spill`` lets the frames go; the data are then read back from the store.
    """

    __slots__ = ("jobs", "keeper", "size", "span_id", "state", "stored", "trace_id")

    def __init__(
        self,
        keeper: Keeper,
        trace_id: bytes,
        span_id: bytes,
        *,
        state: RecordState | None = None,
        row: StoredRecord | None = None,
        jobs: int = 1,
    ) -> None:
        self.keeper = keeper
        self.trace_id = trace_id
        self.span_id = span_id
        self.state = state
        self.stored = row
        self.jobs = jobs
        """How many of them are not settled."""
        self.size = 0
        """Bytes of it that count as held."""

    @property
    def at_hand(self) -> bool:
        """Whether a view can be made without asking the database."""
        return self.state is not None or self.stored is not None

    def measure(self) -> int:
        """Bytes of captured text that it keeps in memory."""
        return 0 if self.state is None else views.size_of(self.state)

    def spill(self) -> None:
        """Keep only the key."""
        self.state = None

    def view(self, *, live: bool) -> RecordView:
        """The record's data, decoded anew.

        Raises
        ------
        StoreError
            They have to be read back and the store cannot be used, or does not have the record.
        """
        state, row = self.state, self.stored
        if state is not None:
            return views.from_state(state, live=live)
        if row is None:
            row = self._read_back()
        return views.from_row(row, self.keeper)

    def _read_back(self) -> StoredRecord:
        trace_id, span_id = self.trace_id.hex(), self.span_id.hex()
        row = stored.load(self.keeper, trace_id, span_id)
        if row is None:
            reason = self.keeper.ship(timeout=30)
            row = stored.load(self.keeper, trace_id, span_id)
            if row is None:
                raise StoreError(f"record {trace_id}:{span_id} could not be read back: {reason or 'it is not stored'}")
        return row


class Job:
    """One metric on one record.

    ``claim`` decides who settles it: the runner's outcome, or the exit that came first. ``lock`` keeps "it is running"
    from being said after its result: both are said under it.
    """

    __slots__ = (
        "_open",
        "announced",
        "asynchronous",
        "attempts",
        "began",
        "direct",
        "done",
        "failures",
        "handle",
        "id",
        "inline",
        "lock",
        "metric",
        "source",
        "submitted",
        "task",
    )

    def __init__(
        self,
        source: Source,
        metric: Metric,
        handle: Handle | None,
        *,
        attempts: int = 0,
        inline: bool = False,
        done: Callable[[Job], None] | None = None,
    ) -> None:
        self.id = next(_ids)
        self.source = source
        self.metric = metric
        self.handle = handle
        self.attempts = attempts
        """Attempts that were made, those of earlier runs included."""
        self.failures = 0
        """Attempts of this run that failed."""
        self.inline = inline
        self.done = done
        self.asynchronous = is_async(metric.function)
        self.submitted = time.monotonic()
        self.began: int | None = None  # Unix time in nanoseconds at which the present attempt began
        self.announced = False  # its `running` frame was written
        self.task: Any = None  # as long as the runner has it
        self.lock = threading.Lock()
        self._open: list[None] = [None]

    def claim(self) -> bool:
        """Become the one who settles it; true for exactly one caller."""
        try:
            self._open.pop()
        except IndexError:
            return False
        return True

    @property
    def settled(self) -> bool:
        """Whether somebody has claimed it."""
        return not self._open

    def all_names(self, score: Score) -> list[tuple[str, Score]]:
        """The same outcome for every name of the metric."""
        return [(name, score) for name in self.metric.names]

    def raised(self, error: BaseException) -> Attempt:
        """The outcome of an attempt that raised."""
        info = failures.info(_from_the_metric(error))
        retriable = isinstance(error, Exception) and getattr(error, "retriable", True) is not False
        failed = Score(
            status=ScoreStatus.FAILED,
            reason=f"the metric raised {info.type}" + (f": {first_line(info.message)}" if info.message else ""),
            error=f"{info.type}: {info.message}",
            traceback=info.traceback,
        )
        return Attempt(self.all_names(failed), retriable)


def _from_the_metric(error: BaseException) -> BaseException:
    """The exception with a traceback that begins in the metric, not in the engine."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None and trace.tb_frame.f_code.co_filename.startswith(_OURS):
        trace = trace.tb_next
    return error.with_traceback(trace)


def first_line(text: str, limit: int = 300) -> str:
    """What of a message fits into a sentence."""
    line = text.strip().split("\n", 1)[0]
    return line if len(line) <= limit else f"{line[:limit]}…"
