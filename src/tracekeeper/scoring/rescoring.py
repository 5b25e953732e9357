"""Judging records that are stored already: ``tracekeeper score``, and metrics that were thought of later.

It goes the way of every score: born ``pending`` in the journal, run by the engine, settled by a frame. What is read at
a time is bounded, so any number of records can be judged. It may be interrupted at any moment: what was settled stays,
and the next call judges the rest, because a record is only left out when this version of the metric has judged it.
"""

from __future__ import annotations

import queue
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any

from tracekeeper.scoring import draining, stored
from tracekeeper.scoring.engine import engine_for
from tracekeeper.scoring.jobs import Job, Source
from tracekeeper.scoring.settle import frame_of
from tracekeeper.scoring.stored import StoredRecord
from tracekeeper.types import Score, ScoreStatus

if TYPE_CHECKING:
    from tracekeeper.judging import Metric
    from tracekeeper.tracing.keeper import Keeper

AT_ONCE = 100
"""Records read from the store at a time."""
OPEN_JOBS = 512
"""Jobs that are open at a time."""
_NEVER_RAN = "its process ended before it ran"

OnProgress = Callable[[int, Mapping[str, int]], object]
"""Called with the number of scores that are final, and that number by status."""
_Key = tuple[str, str, str, str]


def score_stored(
    keeper: Keeper,
    records: Iterable[Any],
    metrics: Sequence[Metric],
    on_progress: OnProgress | None = None,
    *,
    again: bool = False,
) -> dict[str, int]:
    """Judge stored records and wait for it; the number of scores by status.

    Parameters
    ----------
    keeper:
        Whose store has the records; the scores are written to its journal.
    records:
        Rows of the store's record table, or records with their payload; read as they are needed.
    metrics:
        What to judge by.
    on_progress:
        Called in the caller's thread after each settled metric.
    again:
        Also judge what has been judged by the same version. The earlier outcome stays visible as an earlier attempt.

    Raises
    ------
    StoreError
        The records cannot be read.
    """
    run = _Run(keeper, metrics, on_progress, again)
    for metric in metrics:
        keeper.define(metric.definition())
    try:
        for some in _chunks(records, AT_ONCE):
            run.begin(some)
        run.wait_until(0)
    except BaseException:  # Ctrl-C above all: what has not settled is left for the next time
        run.give_up()
        raise
    return dict(run.counts)


class _Counted:
    """The handle of a stored record's job: counts what settles."""

    def __init__(self, counts: Counter[str]) -> None:
        self.counts = counts

    def settle(self, score: Score) -> None:
        if score.final:
            self.counts[str(score.status)] += 1


class _Run:
    def __init__(self, keeper: Keeper, metrics: Sequence[Metric], on_progress: OnProgress | None, again: bool) -> None:
        self.keeper = keeper
        self.metrics = metrics
        self.on_progress = on_progress
        self.again = again
        self.engine = engine_for(keeper)
        self.counts: Counter[str] = Counter()
        self._finished: queue.SimpleQueue[tuple[Job, Counter[str]]] = queue.SimpleQueue()
        self._open: dict[int, Job] = {}

    def begin(self, rows: Sequence[Any]) -> None:
        """Make and hand over the jobs of some records."""
        records = self._with_payloads(rows)
        known: dict[_Key, Any] = {}
        for row in self.keeper.store().scores_by_key([(record.trace_id, record.span_id) for record in records]):
            known[(row.trace_id, row.span_id, row.name, row.metric_version)] = row
        for record in records:
            jobs = self._jobs(record, known)
            if jobs:
                self._open.update((job.id, job) for job in jobs)
                self.engine.submit_jobs(jobs)
                self.wait_until(OPEN_JOBS)

    def wait_until(self, left: int) -> None:
        """Wait until no more than that many jobs are open. Bounded, because each of them is."""
        while len(self._open) > left:
            job, counts = self._finished.get()
            self._open.pop(job.id, None)
            self.counts.update(counts)
            if self.on_progress is not None:
                self.on_progress(self.counts.total(), self.counts)

    def give_up(self) -> None:
        """Leave what has not settled."""
        for job in list(self._open.values()):
            draining.leave_undone(self.engine, job, "judging was interrupted")

    def _with_payloads(self, rows: Sequence[Any]) -> list[StoredRecord]:
        have = [row for row in rows if isinstance(row, StoredRecord)]
        lack = [row for row in rows if not isinstance(row, StoredRecord)]
        if lack:
            have.extend(stored.from_rows(lack, self.keeper.store().payloads([row.id for row in lack])))
        return have

    def _jobs(self, record: StoredRecord, known: Mapping[_Key, Any]) -> list[Job]:
        source = Source(self.keeper, bytes.fromhex(record.trace_id), bytes.fromhex(record.span_id), row=record)
        jobs = []
        for metric in self.metrics:
            rows = [known.get((record.trace_id, record.span_id, name, metric.version)) for name in metric.names]
            if not self.again and all(row is not None and _judged(row) for row in rows):
                continue
            attempts = max((row.attempt for row in rows if row is not None), default=0)
            counts: Counter[str] = Counter()
            done = _finisher(self._finished, counts)
            job = Job(source, metric, _Counted(counts), attempts=attempts, done=done)
            jobs.append(job)
            for name, row in zip(metric.names, rows, strict=True):
                # A higher attempt replaces what is there; without a row this is the score's birth.
                born = Score(status=ScoreStatus.PENDING, name=name, attempt=0 if row is None else attempts + 1)
                self.keeper.write(frame_of(job, name, born))
        source.jobs = len(jobs)
        return jobs


def _finisher(finished: queue.SimpleQueue[tuple[Job, Counter[str]]], counts: Counter[str]) -> Callable[[Job], None]:
    return lambda job: finished.put((job, counts))


def _judged(row: Any) -> bool:
    """Whether the metric has come to a result, whatever it is; a run that was cut short has not."""
    status = ScoreStatus(row.status)
    if not status.final or status is ScoreStatus.CANCELLED or row.reason == _NEVER_RAN:
        return False
    return bool(row.attempt)  # 0: it never began (not sampled, or no place for it in time)


def _chunks(records: Iterable[Any], size: int) -> Iterator[list[Any]]:
    iterator = iter(records)
    while some := list(islice(iterator, size)):
        yield some
