"""Judging records that are stored already: ``tk.rescore``, ``tracekeeper score``, metrics that were thought of later.

Each score is claimed (``Store.take``) before it is computed, so of several processes that judge the same records one
computes it, and goes the way of every score from there: run by the engine, settled by a frame of this process's
journal. The claims are renewed as long as this goes on. It may be interrupted at any moment: what was settled stays,
and the next call claims the rest, because a score is only left out when this version of the metric came to a result.

What somebody else is about to compute is waited for at the end: it settles, or its owner loses it and it is taken over.
"""

from __future__ import annotations

import queue
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from tracekeeper.configuration.settings import base_settings
from tracekeeper.scoring import draining, stored
from tracekeeper.scoring.engine import engine_for
from tracekeeper.scoring.jobs import Job, Source
from tracekeeper.scoring.settle import completed, frame_of
from tracekeeper.scoring.taking import LOCKED_PATIENCE, Taker, Todo, patiently
from tracekeeper.scoring.worker.leases import Claimed, Leases
from tracekeeper.types import MetricMode, Score, ScoreStatus, SpanStatus, StoreError
from tracekeeper.types.faults import point

if TYPE_CHECKING:
    from tracekeeper.judging import Metric
    from tracekeeper.scoring.stored import StoredRecord
    from tracekeeper.store.claims.claims import Claim
    from tracekeeper.tracing.keeper import Keeper

T = TypeVar("T")

AT_ONCE = 100
"""Records read from the store, and claimed, at a time."""
OPEN_JOBS = 128
"""Jobs that are open at a time. What is claimed and not settled when this process is killed counts as lost, so that it
runs in a process of its own the next time: not many."""
LAST = 100
"""Priority of scores that are left to workers: behind what is being traced."""
FIRST_PAUSE, LONGEST_PAUSE = 0.05, 1.0
"""Seconds between two looks at what others are about to compute."""
RELEASE_WITHIN = 5.0
"""Seconds for which giving back is waited for."""
INTERRUPTED = "judging was interrupted"

OnProgress = Callable[[int, Mapping[str, int]], object]
"""Called with the number of scores that are final, and that number by status."""


class Judged(NamedTuple):
    """What judging stored records came to, in scores."""

    records: int
    """Records that were looked at."""
    scores: dict[str, int]
    """By status: what this call computed."""
    before: int
    """Had come to a result before."""
    elsewhere: dict[str, int]
    """By status: what somebody else computed meanwhile."""
    left: int
    """Were left to workers."""
    running: int
    """Records that were left out because their call has not ended."""


def score_stored(
    keeper: Keeper,
    records: Iterable[Any],
    metrics: Sequence[Metric],
    on_progress: OnProgress | None = None,
    *,
    again: bool = False,
    wait: bool = True,
    concurrency: int | None = None,
    priority: int | None = None,
) -> Judged:
    """Judge stored records and wait for it.

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
    wait:
        Compute here. Otherwise the scores are left ``pending`` for workers; the metrics must be importable.
    concurrency:
        Metrics that are begun and not settled at a time; by default the setting ``scoring_concurrency`` alone bounds
        them.
    priority:
        Smaller goes first; by default the metric's own, or behind everything when it is left to workers.

    Raises
    ------
    StoreError
        The records cannot be read, or nothing can be claimed.
    """
    for metric in metrics:
        keeper.define(metric.definition())
    journal = keeper.begin()
    reason = keeper.ship(LOCKED_PATIENCE)  # a worker finds the definitions, and claims find this journal
    if reason is not None or journal is None:
        raise StoreError(f"stored records cannot be judged now: {reason or 'there is no journal to write scores to'}")
    run = _Run(keeper, journal.name, metrics, on_progress, again, concurrency, priority)
    if not wait:
        run.leave(records)
        return run.outcome()
    try:
        for some in chunks(records, run.chunk):
            run.begin(run.todo(some), again=again)
        run.wait_until(0)
        run.wait_for_others()
    except BaseException:  # Ctrl-C above all: what has not settled is left for the next time
        run.give_up()
        raise
    finally:
        if run.leases.settle(time.monotonic() + RELEASE_WITHIN):
            run.leases.beat.stop()  # else it goes on until the database answers
    return run.outcome()


class _Counted:
    """The handle of a stored record's job: counts what settles."""

    def __init__(self, todo: Todo) -> None:
        self.todo = todo
        self.counts: Counter[str] = Counter()

    def settle(self, score: Score) -> None:
        if score.final:
            self.counts[str(score.status)] += 1


class _Held(Claimed):
    """A claim of ours. What only this process can compute is not given to others, but cancelled."""

    __slots__ = ("job",)

    job: Job

    def give_back(self) -> None:
        """See ``jobs.Lease``."""
        job = self.job
        if not job.metric.local:
            super().give_back()
            return
        score = Score(status=ScoreStatus.CANCELLED, reason=INTERRUPTED)
        for name in self.names:
            job.source.keeper.write(frame_of(job, name, completed(job, name, score, job.attempts + 1, None)))


class _Run:
    def __init__(
        self,
        keeper: Keeper,
        owner: str,
        metrics: Sequence[Metric],
        on_progress: OnProgress | None,
        again: bool,
        concurrency: int | None,
        priority: int | None,
    ) -> None:
        self.keeper = keeper
        self.metrics = metrics
        self.on_progress = on_progress
        self.again = again
        self.priority = priority
        self.at_once = OPEN_JOBS if concurrency is None else concurrency
        self.chunk = min(AT_ONCE, self.at_once)
        self.engine = engine_for(keeper)
        self.leases = Leases(self.engine)
        self.counts: Counter[str] = Counter()
        self.owner = owner
        self.taker = Taker(keeper, owner)
        self.records = self.left = self.running = 0
        self._others: list[Todo] = []
        self._finished: queue.SimpleQueue[Job] = queue.SimpleQueue()
        self._open: dict[int, Job] = {}
        self._unsubmitted: dict[int, Job] = {}  # of these, what the engine does not have yet

    def outcome(self) -> Judged:
        """What it came to."""
        taker = self.taker
        return Judged(self.records, dict(self.counts), taker.before, dict(taker.elsewhere), self.left, self.running)

    def todo(self, rows: Sequence[Any]) -> list[Todo]:
        """What there is to do about some records; a call that has not ended has nothing to be judged yet."""
        ended = [row for row in rows if row.status != SpanStatus.RUNNING]
        self.records += len(ended)
        self.running += len(rows) - len(ended)
        return [Todo(row, metric, metric.names) for row in ended for metric in self.metrics]

    def begin(self, todo: Sequence[Todo], *, again: bool) -> None:
        """Claim, and hand over the jobs of what was claimed."""
        self.leases.claiming()
        jobs = {}
        for each, claims in self._take(todo, again=again):
            job = self._job(each, claims)
            jobs[job.id] = job
            self._open[job.id] = self._unsubmitted[job.id] = job
        self.leases.hold([(job, job.lease) for job in jobs.values() if isinstance(job.lease, _Held)])
        point("rescoring.claimed")
        rows = {self._counted(job).todo.row.id: self._counted(job).todo.row for job in jobs.values()}
        records = {record.id: record for record in self._with_payloads(list(rows.values()))}
        for job in jobs.values():
            job.source.stored = records[self._counted(job).todo.row.id]
        while self._unsubmitted:
            self.wait_until(self.at_once - 1)
            if self._unsubmitted:
                job = self._unsubmitted.pop(next(iter(self._unsubmitted)))
                if not job.settled:
                    self.engine.submit_jobs([job])

    def leave(self, records: Iterable[Any]) -> None:
        """Let workers have the scores."""
        priority = LAST if self.priority is None else self.priority
        for some in chunks(records, AT_ONCE):
            claimed = self._take(self.todo(some), again=self.again, priority=priority, mode=MetricMode.DEFERRED)
            ids = [claim.score_id for _, claims in claimed for claim in claims]
            self.left += patiently(partial(self.keeper.store().release, self.owner, ids))
        self.left += sum(len(each.names) for each in self._others)  # they wait for somebody already
        self._others = []

    def wait_until(self, left: int) -> None:
        """Wait until no more than that many jobs are with the engine. Bounded, because each of them is."""
        while len(self._open) - len(self._unsubmitted) > left:
            job = self._finished.get()
            self._open.pop(job.id, None)
            self._unsubmitted.pop(job.id, None)
            self.leases.done(job)
            counted = self._counted(job)
            if not counted.counts:  # it was lost to somebody else
                self._others.append(counted.todo)
                continue
            self.counts.update(counted.counts)
            if self.on_progress is not None:
                self.on_progress(self.counts.total(), self.counts)

    def wait_for_others(self) -> None:
        """Wait for what somebody else is about to compute, and take over what that one loses."""
        pause, lease = FIRST_PAUSE, base_settings().lease
        while self._others:
            self.keeper.ship(LONGEST_PAUSE)  # our own results, and what dead processes left
            patiently(partial(self._reap, lease))
            before, others = len(self._others), self._others
            self._others = []
            for some in chunks(others, AT_ONCE):
                self.begin(some, again=False)
            self.wait_until(0)
            if len(self._others) == before:
                threading.Event().wait(pause)
                pause = min(LONGEST_PAUSE, pause * 2)
            else:
                pause = FIRST_PAUSE

    def _reap(self, lease: float) -> None:
        self.keeper.store().reap(time.time_ns(), lease, owner=self.owner)

    def give_up(self) -> None:
        """Leave what has not settled."""
        for job in list(self._open.values()):
            draining.leave_undone(self.engine, job, INTERRUPTED)

    def _take(
        self, todo: Sequence[Todo], *, again: bool, priority: int | None = None, mode: MetricMode | None = None
    ) -> list[tuple[Todo, list[Claim]]]:
        asked = self.priority if priority is None else priority
        claimed, others = self.taker.take(todo, again=again, priority=asked, mode=mode)
        self._others += others
        return claimed

    def _job(self, each: Todo, claims: Sequence[Claim]) -> Job:
        source = Source(
            self.keeper, bytes.fromhex(each.row.trace_id), bytes.fromhex(each.row.span_id), app=each.row.app or ""
        )
        job = Job(
            source,
            each.metric,
            _Counted(each),
            attempts=max(claim.attempt for claim in claims) - 1,
            # A score whose process died while it ran may have been the reason.
            isolated=True if any(claim.lost for claim in claims) and not each.metric.local else None,
            priority=self.priority,
            done=self._finished.put,
        )
        ids = frozenset(claim.score_id for claim in claims)
        names = frozenset(claim.name for claim in claims)
        job.lease = held = _Held(self.leases, self.owner, ids, names, claims[0].mode, base_settings().lease)
        held.job = job
        return job

    @staticmethod
    def _counted(job: Job) -> _Counted:
        assert isinstance(job.handle, _Counted)
        return job.handle

    def _with_payloads(self, rows: Sequence[Any]) -> list[StoredRecord]:
        have = [row for row in rows if isinstance(row, stored.StoredRecord)]
        lack = [row for row in rows if not isinstance(row, stored.StoredRecord)]
        if lack:
            have.extend(stored.from_rows(lack, self.keeper.store().payloads([row.id for row in lack])))
        return have


def chunks(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """The items in lists of at most that size."""
    iterator = iter(items)
    while some := list(islice(iterator, size)):
        yield some


__all__ = ["Judged", "OnProgress", "score_stored"]
