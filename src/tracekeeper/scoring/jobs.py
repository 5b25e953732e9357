"""A job: one metric on one record, from the moment it is known until its scores are final."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import msgspec

from tracekeeper.scoring import stored, targets, views
from tracekeeper.tracing import failures
from tracekeeper.types import Score, ScoreStatus, StoreError

if TYPE_CHECKING:
    from tracekeeper.judging import Metric, RecordView
    from tracekeeper.scoring.evaluations import AttemptEvaluation
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


class Lease(Protocol):
    """By what right this process computes a score that another one brought into the world."""

    @property
    def names(self) -> frozenset[str]:
        """The scores that were claimed; what the metric says of other names is not ours to write."""
        ...

    @property
    def mode(self) -> str:
        """As the score was born with."""
        ...

    def holds(self) -> bool:
        """Whether nobody else can have taken it over: no attempt begins after that."""
        ...

    def give_back(self) -> None:
        """Let others claim it. Returns at once."""
        ...


class Attempt(msgspec.Struct, frozen=True):
    """What one attempt gave."""

    scores: list[tuple[str, Score]]
    retriable: bool = False
    """It raised something that another attempt might not."""
    seconds: float | None = None
    """How long it took, where the runner's figure holds more: the start of a process."""


class Source:
    """Where the data of what is judged are: a record's frames in memory, a row of the store, or only its key.

    Shared by the jobs of one target. ``spill`` lets the frames go; the data are then read back from the store.
    """

    __slots__ = ("app", "jobs", "keeper", "session_id", "size", "span_id", "state", "stored", "target", "trace_id")

    def __init__(
        self,
        keeper: Keeper,
        trace_id: bytes,
        span_id: bytes,
        *,
        state: RecordState | None = None,
        row: StoredRecord | None = None,
        jobs: int = 1,
        target: str = "record",
        session_id: str = "",
        app: str | None = None,
    ) -> None:
        self.keeper = keeper
        self.trace_id = trace_id
        self.span_id = span_id
        self.target = target
        """``record``, ``span`` or ``session``."""
        self.session_id = session_id
        """Of the target ``session``, which has no other key; empty otherwise."""
        self.state = state
        self.stored = row
        if app is None:
            app = (state.app.name if state.app is not None else "") if state is not None else row.app if row else ""
        self.app = app or ""
        """Whose record it is: what waits is shared out between apps."""
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
        if self.state is not None:
            return views.size_of(self.state)
        row = self.stored
        return 0 if row is None else sum(map(len, filter(None, (row.input, row.output, row.context, row.expected))))

    def spill(self) -> None:
        """Keep only the key."""
        self.state = self.stored = None

    def view(self, *, live: bool) -> RecordView:
        """The data of what is judged, decoded anew.

        Raises
        ------
        StoreError
            They have to be read back and the store cannot be used, or does not have the record.
        """
        if self.target == "span":
            return targets.view_of_span(self.keeper, self.trace_id, self.span_id)
        if self.target == "session":
            return targets.view_of_session(self.keeper, self.session_id)
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
        "evaluating",
        "evaluation",
        "failures",
        "handle",
        "id",
        "inline",
        "isolated",
        "lease",
        "lock",
        "metric",
        "priority",
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
        isolated: bool | None = None,
        lease: Lease | None = None,
        priority: int | None = None,
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
        self.isolated = getattr(metric, "isolation", None) == "process" if isolated is None else isolated
        """Whether it runs in a process of its own."""
        self.lease = lease
        """Of a score that was claimed from the store: by what right it is ours."""
        self.priority = metric.priority if priority is None else priority
        """Smaller ones are begun first."""
        self.evaluation = b""
        """Trace id of the trace that the present attempt left; empty when it left none."""
        self.evaluating: AttemptEvaluation | None = None  # as long as an attempt runs
        self.done = done
        self.asynchronous = metric.asynchronous
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
