"""``tk.leaderboard``: what the metrics say of each app version, and over how many records they could say it.

A mean alone flatters: a metric that fails on the hard records raises it. So a mean never stands without its account,
n = scored + failed + timed_out + cancelled + skipped + pending + running.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import msgspec

from tracekeeper.reading.columns import UNMEASURED, Column
from tracekeeper.reading.fresh import TIMEOUT, checked, dropped, dropped_line, fresh
from tracekeeper.reading.receipts import ACCOUNT_ORDER, counts_text
from tracekeeper.reading.tables import Section, Table
from tracekeeper.render import format_cost, format_duration, format_number, show
from tracekeeper.statistics import mean_interval
from tracekeeper.types import SpanStatus

if TYPE_CHECKING:
    from tracekeeper.store.results import LeaderboardRow, MetricCounts


class MetricStanding(msgspec.Struct, frozen=True, kw_only=True):
    """What one metric says of one app version.

    Parameters
    ----------
    mean:
        Of the scored values (of truth values the share that is true); ``None`` when there is no number among them.
    margin:
        Half the width of the mean's 95 % confidence interval (Student's t); ``None`` for fewer than two values.
    counts:
        Scores by status.
    """

    mean: float | None = None
    margin: float | None = None
    counts: dict[str, int] = {}

    @property
    def n(self) -> int:
        """All scores, whatever their status."""
        return sum(self.counts.values())


class Standing(msgspec.Struct, frozen=True, kw_only=True):
    """One app version. Latencies in seconds, cost in US dollars; ``None`` where nothing was reported."""

    app: str | None
    version: str | None
    records: int
    statuses: dict[str, int] = {}
    latency_p50: float | None = None
    latency_p95: float | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    cost: float | None = None
    metrics: dict[str, MetricStanding] = {}


def leaderboard(filter: str | None = None, *, timeout: float = TIMEOUT) -> Table[Standing]:
    """Compare app versions over the records that match. Sees everything that this process has traced before the call.

    Parameters
    ----------
    filter:
        Which records count, e.g. ``app = "rag" and environment = "prod"``.
    timeout:
        Seconds to wait until what this process journaled is stored; past them ``table.note`` says what is lacking.

    Raises
    ------
    FilterError
        The filter does not parse.
    StoreError
        The database cannot be read.

    Example
    -------
    >>> import tracekeeper as tk
    >>> @tk.app(name="doc-board", version="2", metrics=[tk.metric(lambda output: len(output) < 40, name="short")])
    ... def ask(question):
    ...     return "mild"
    >>> _ = ask("weather?"), ask.app.wait_for_scores(timeout=10)
    >>> [standing] = tk.leaderboard('app = "doc-board"')
    >>> standing.version, standing.metrics["short"].mean, standing.metrics["short"].counts
    ('2', 1.0, {'scored': 1})
    """
    checked(filter)
    now = fresh(timeout)
    found = [standing_of(row) for row in now.store.leaderboard(filter)]
    return Table(
        found,
        columns_of(found),
        noun="app version",
        note=now.note,
        footer=partial(_drops, dropped(now.store)),
        sections=sections,
    )


def standing_of(row: LeaderboardRow) -> Standing:
    """The store's aggregates of one app version, with intervals."""
    return Standing(
        app=row.app,
        version=row.version,
        records=row.records,
        statuses={status: n for status, n in row.statuses.items() if n},
        latency_p50=_seconds(row.latency_p50),
        latency_p95=_seconds(row.latency_p95),
        input_tokens=row.input_tokens,
        output_tokens=row.output_tokens,
        cost=row.cost,
        metrics={metric.name: metric_standing(metric) for metric in row.metrics},
    )


def metric_standing(row: MetricCounts) -> MetricStanding:
    """One metric's aggregates, with the interval of its mean."""
    interval = None if row.mean is None else mean_interval(row.n_values, row.mean, row.variance or 0.0)
    return MetricStanding(
        mean=row.mean,
        margin=None if interval is None else interval.margin,
        counts={status: n for status, n in row.statuses.items() if n},
    )


def _seconds(nanoseconds: int | None) -> float | None:
    return None if nanoseconds is None else nanoseconds / 1e9


def columns_of(found: Sequence[Standing]) -> list[Column[Standing]]:
    """The columns for programs: every figure on its own."""
    statuses = [str(status) for status in SpanStatus if any(str(status) in standing.statuses for standing in found)]
    names = metric_names(found)
    return [
        Column("app", lambda row: row.app),
        Column("version", lambda row: row.version),
        Column("records", lambda row: row.records, "integer"),
        *(Column(f"records.{status}", partial(_status_count, status), "integer") for status in statuses),
        *(Column(name, partial(_field, name), "number") for name in ("latency_p50", "latency_p95")),
        *(Column(name, partial(_field, name), "integer") for name in ("input_tokens", "output_tokens")),
        Column("cost", lambda row: row.cost, "number"),
        *(column for name in names for column in _metric_columns(name)),
    ]


def metric_names(found: Iterable[Standing]) -> list[str]:
    """Every metric of any of them, in alphabetical order."""
    return sorted({name for standing in found for name in standing.metrics})


def _metric_columns(name: str) -> list[Column[Standing]]:
    return [
        Column(f"{name}.mean", lambda row: _of(row, name).mean, "number"),
        Column(f"{name}.margin", lambda row: _of(row, name).margin, "number"),
        Column(f"{name}.n", lambda row: _of(row, name).n, "integer"),
        *(Column(f"{name}.{status}", partial(_count, name, str(status)), "integer") for status in ACCOUNT_ORDER),
    ]


def _of(row: Standing, name: str) -> MetricStanding:
    return row.metrics.get(name) or MetricStanding()


def _count(name: str, status: str, row: Standing) -> int:
    return _of(row, name).counts.get(status, 0)


def _status_count(status: str, row: Standing) -> int:
    return row.statuses.get(status, 0)


def _field(name: str, row: Standing) -> Any:
    return getattr(row, name)


def sections(found: Sequence[Standing]) -> list[Section]:
    """What people see: a line for each app version, then one for each metric and version, versions side by side."""
    versions = [
        (
            row.app or "no app",
            show(row.version),
            show(row.records),
            ", ".join(f"{n:,} {status}" for status, n in row.statuses.items() if n),
            format_duration(row.latency_p50),
            format_duration(row.latency_p95),
            show(row.input_tokens),
            show(row.output_tokens),
            format_cost(row.cost),
        )
        for row in found
    ]
    titles = ("app", "version", "records", "status", "p50", "p95", "tokens in", "tokens out", "cost")
    metrics = [
        (name, row.app or "no app", show(row.version), mean_text(standing), account_text(standing))
        for name in metric_names(found)
        for row in found
        for standing in (row.metrics.get(name),)
    ]
    by_metric = Section("\nscores, mean ± 95 % interval", ("metric", "app", "version", "mean", "n"), metrics)
    return [Section("", titles, versions, (0, 0, 0, 0, 0, 1, 3, 3, 2)), *([by_metric] if metrics else [])]


def mean_text(standing: MetricStanding | None) -> str:
    """A mean and how sure it is.

    >>> mean_text(MetricStanding(mean=0.8312, margin=0.0401)), mean_text(MetricStanding(counts={"pending": 2}))
    ('0.83 ± 0.04', 'no value')
    """
    if standing is None:
        return UNMEASURED
    if standing.mean is None:
        return "no value"
    margin = "" if standing.margin is None else f" ± {format_number(standing.margin)}"
    return f"{format_number(float(standing.mean))}{margin}"


def account_text(standing: MetricStanding | None) -> str:
    """How many scores there are, by status."""
    return UNMEASURED if standing is None else counts_text(standing.counts)


def _drops(drops: dict[str, int], shown: Sequence[Standing]) -> list[str]:
    return dropped_line(drops)
