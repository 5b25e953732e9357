"""``tk.rescore``: judge stored records by metrics that were thought of, or changed, after the calls were made."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from tracekeeper.judging import Metric, as_metrics
from tracekeeper.metrics import resolve
from tracekeeper.reading.fresh import checked, fresh
from tracekeeper.reading.receipts import counts_text
from tracekeeper.scoring.rescoring import Judged, OnProgress, score_stored
from tracekeeper.tracing.opening import enabled
from tracekeeper.types import ConfigurationError, MetricError

if TYPE_CHECKING:
    from tracekeeper.store.results import RecordRow
    from tracekeeper.store.store import Store

PAGE = 1_000
"""Records read at a time."""
STORE_WITHIN = 30.0
"""Seconds to wait until what was traced, or judged, before is stored."""


class Rescored(msgspec.Struct, frozen=True):
    """What ``tk.rescore`` did. Printed it is a sentence.

    Parameters
    ----------
    records:
        Records that were looked at.
    scores:
        By status: the scores that this call computed.
    before:
        Scores that had come to a result before and were left alone.
    elsewhere:
        By status: scores that another process computed while this call wanted them too.
    left:
        Scores that were left to workers.
    running:
        Records that were left out because their call has not ended.
    filter:
        Which records were asked for.
    note:
        What was not as up to date as it should be; ``None`` when everything was.

    Example
    -------
    >>> print(Rescored(records=3, scores={"scored": 4, "failed": 1}, before=1))
    3 records judged: 5 = 4 scored + 1 failed; 1 was judged before (again=True judges anew)
    """

    records: int
    scores: dict[str, int]
    before: int = 0
    elsewhere: dict[str, int] = {}
    left: int = 0
    running: int = 0
    filter: str | None = None
    note: str | None = None

    def __str__(self) -> str:
        parts = [self._judged()]
        if self.before:
            parts.append(f"{self.before:,} {_were(self.before)} judged before (again=True judges anew)")
        if self.elsewhere:
            parts.append(f"computed by other processes meanwhile: {counts_text(self.elsewhere)}")
        if self.left:
            parts.append(f"{self.left:,} {_were(self.left)} left to workers")
        if self.running:
            parts.append(f"{_records(self.running)} left out that {'is' if self.running == 1 else 'are'} still running")
        if self.note:
            parts.append(self.note)
        return "; ".join(parts)

    def _judged(self) -> str:
        if not self.records:
            return f"no record that has ended matches {self.filter}" if self.filter else "there is no record to judge"
        if not self.scores:
            return f"{_records(self.records)}, nothing judged here"
        return f"{_records(self.records)} judged: {counts_text(self.scores)}"


def rescore(
    filter: str | None = None,
    metrics: Iterable[Metric | Callable[..., Any] | str] = (),
    *,
    again: bool = False,
    limit: int | None = None,
    concurrency: int | None = None,
    priority: int | None = None,
    wait: bool = True,
    on_progress: OnProgress | None = None,
) -> Rescored:
    """Judge stored records: what lacks a score of these metrics, in their present versions, gets one.

    May be interrupted at any moment and called again: it then does the rest. Any number of processes may do it at once:
    each score is computed by one of them. What another process is computing is waited for, and taken over when that one
    dies or is not heard of for longer than its lease.

    Parameters
    ----------
    filter:
        Which records, e.g. ``app = "rag" and score.groundedness < 0.5``; default: all.
    metrics:
        Metrics, functions, names of built-in metrics (``"overlap_groundedness"``) or import paths
        (``"my_app.metrics:cites"``).
    again:
        Also what was judged by the same version before. The earlier outcome stays visible in ``record.history``.
    limit:
        The newest so many records; ``None``: all.
    concurrency:
        Evaluations at a time; default: the setting ``scoring_concurrency``.
    priority:
        Smaller goes first among what waits in this process and in workers; default: the metric's own.
    wait:
        Compute here and return when it is done. Otherwise the scores are left ``pending`` for workers, behind
        everything else; the metrics must be importable.
    on_progress:
        Called as ``on_progress(done, counts)`` after each metric: scores that are final, and that number by status.

    Returns
    -------
    Rescored
        The counts by status; a sentence when it is printed.

    Raises
    ------
    FilterError
        The filter does not parse.
    MetricError
        No metric, one that is unknown (the nearest is named), or one that only this process can compute with
        ``wait=False``.
    ConfigurationError
        A limit or concurrency that is none, or tracing is off, so that nothing would be kept.
    StoreError
        The database cannot be used.

    Example
    -------
    >>> import tracekeeper as tk
    >>> record = tk.log_record(input="capital of France?", output="Paris", expected="Paris", app="doc-rescore")
    >>> print(tk.rescore('app = "doc-rescore"', metrics=["exact_match"]))
    1 record judged: 1 = 1 scored
    >>> tk.rescore('app = "doc-rescore"', metrics=["exact_match"]).before
    1
    """
    made = as_judges(metrics)
    checked(filter)
    _check_count("limit", limit, low=0)
    _check_count("concurrency", concurrency, low=1)
    if priority is not None and (not isinstance(priority, int) or isinstance(priority, bool)):
        raise ConfigurationError(f"priority={priority!r}: expected a whole number")
    local = [metric.name for metric in made if metric.local]
    if not wait and local:
        raise MetricError(
            f"wait=False leaves the scores to workers, and no other process can compute {', '.join(map(repr, local))}: "
            "define it in a module that can be imported, or leave wait=True"
        )
    if enabled() is None:
        raise ConfigurationError("tracing is turned off, so no score would be kept; turn it on first")
    now = fresh(STORE_WITHIN)
    judged = score_stored(
        now.keeper,
        matching(now.store, filter, limit),
        made,
        on_progress,
        again=again,
        wait=wait,
        concurrency=concurrency,
        priority=priority,
    )
    reason = now.keeper.ship(STORE_WITHIN)
    note = f"not all of it is stored yet: {reason}" if reason else now.note
    return _rescored(judged, filter, note)


def as_judges(metrics: Iterable[Metric | Callable[..., Any] | str]) -> Sequence[Metric]:
    """Metrics from whatever names them.

    Raises
    ------
    MetricError
        None at all, one that is unknown, or two of one name.
    """
    if isinstance(metrics, str) or callable(metrics) or not isinstance(metrics, Iterable):
        raise MetricError(f"metrics={metrics!r}: expected a list of metrics; write [{metrics!r}]")
    made = as_metrics(resolve(each) if isinstance(each, str) else each for each in metrics)
    if not made:
        raise MetricError('metrics=[]: name at least one metric to judge by, e.g. metrics=["overlap_groundedness"]')
    return made


def matching(store: Store, filter: str | None, limit: int | None = None) -> Iterator[RecordRow]:
    """The records that match, a page at a time: all of them the oldest first, or the newest so many."""
    last: int | None = None
    while limit is None or limit > 0:
        size = PAGE if limit is None else min(PAGE, limit)
        if limit is None:
            page = store.records(filter, limit=size, after=last, oldest_first=True)
        else:
            page = store.records(filter, limit=size, before=last)
            limit -= len(page)
        if not page:
            return
        yield from page
        last = page[-1].id


def _rescored(judged: Judged, filter: str | None, note: str | None) -> Rescored:
    return Rescored(**judged._asdict(), filter=filter, note=note)


def _check_count(name: str, value: int | None, *, low: int) -> None:
    if value is not None and (not isinstance(value, int) or isinstance(value, bool) or value < low):
        raise ConfigurationError(f"{name}={value!r}: expected a whole number, {low} or more, or None")


def _records(count: int) -> str:
    return f"{count:,} {'record' if count == 1 else 'records'}"


def _were(count: int) -> str:
    return "was" if count == 1 else "were"
