"""The leaderboard: what the records of each app version add up to, computed by the database.

Without a filter every statement is served by a covering index in its own order (``record_app``, ``record_latency``,
``record_usage``, ``score_app``): no row is read and nothing is sorted, and a percentile is the n-th entry of an index.
With a filter the matching records are ranked once. A percentile is the nearest rank: the smallest latency that at least
so many of a hundred records do not exceed.

Records and scores are added up side by side, on two connections, since a database's one query uses one core. So the
two may be of different moments: a score that has just come may be counted while its record is not yet.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, Connection, Select, and_, case, func, null, or_, select, union_all

from tracekeeper.concurrency.alongside import Alongside
from tracekeeper.store.results import LeaderboardRow, MetricCounts
from tracekeeper.store.tables import app, record, score
from tracekeeper.types import ScoreStatus, SpanStatus

PERCENTILES = (50, 95)

MANY = 10_000
"""Matching records from which on all scores are read in the order of their index, instead of each record's own."""

AppId = int | None
Sums = tuple[Any, ...]
"""Input tokens, output tokens and cost."""
Metrics = dict[AppId, list[MetricCounts]]


Read = Callable[[], AbstractContextManager[Connection]]
"""Gives a connection in a read transaction of its own."""


def leaderboard(read: Read, where: ColumnElement[bool] | None) -> list[LeaderboardRow]:
    """See ``Store.leaderboard``."""
    with read() as connection:
        names = {row.id: (row.name, row.version) for row in connection.execute(_APPS)}
        if where is None:
            scores = Alongside(lambda: _read(read, _metrics), "leaderboard")
            latencies = _latencies(connection)
            statuses = _statuses(connection, {app_id: of.records for app_id, of in latencies.items()})
        else:
            statuses = _statuses_of(connection, where)
            matching = sum(sum(counts.values()) for counts in statuses.values())
            scores = Alongside(lambda: _read(read, lambda other: _metrics_of(other, where, matching)), "leaderboard")
            latencies = _latencies_of(connection, where)
        sums = _sums(connection, where)
    metrics = scores.result()
    rows = []
    for app_id, counts in statuses.items():
        name, version = names.get(app_id, (None, None))
        latency = latencies.get(app_id, _NO_LATENCIES)
        input_tokens, output_tokens, cost = sums.get(app_id, (None, None, None))
        rows.append(
            LeaderboardRow(
                app=name,
                version=version,
                records=sum(counts.values()),
                statuses=counts,
                latency_n=latency.n,
                latency_mean=latency.mean,
                latency_min=latency.shortest,
                latency_p50=latency.p50,
                latency_p95=latency.p95,
                latency_max=latency.longest,
                input_tokens=input_tokens,
                output_tokens=output_tokens,
                cost=cost,
                metrics=tuple(metrics.get(app_id, ())),
            )
        )
    return sorted(rows, key=lambda row: (row.app is None, row.app or "", row.version or ""))


_APPS = select(app.c.id, app.c.name, app.c.version)


def _read(read: Read, what: Callable[[Connection], Metrics]) -> Metrics:
    with read() as connection:
        return what(connection)


class _Latencies(NamedTuple):
    """Of the records that have ended, in nanoseconds; and how many there are, those that run included."""

    records: int
    n: int
    mean: float | None
    shortest: int | None
    longest: int | None
    p50: int | None
    p95: int | None


_NO_LATENCIES = _Latencies(0, 0, None, None, None, None, None)


def _statuses(connection: Connection, records: dict[AppId, int]) -> dict[AppId, dict[str, int]]:
    """Records by status, also those with 0, of each app version. So many it has; most are ok, and are not counted."""
    of = record.c
    others = [
        one
        for other in (of.status < str(SpanStatus.OK), of.status > str(SpanStatus.OK))
        for one in (
            # In the order of record_app: of each app the entries before ``ok`` and those after it.
            select(app.c.id, of.status, func.count())
            .select_from(app.join(record, and_(of.app_id == app.c.id, other)))
            .group_by(app.c.id, of.status),
            select(null(), of.status, func.count()).where(of.app_id.is_(None), other).group_by(of.status),
        )
    ]
    found = {app_id: {str(each): 0 for each in SpanStatus} for app_id in records}
    for app_id, status, n in connection.execute(union_all(*others)):
        found[app_id][status] = n
    for app_id, counts in found.items():
        counts[str(SpanStatus.OK)] = records[app_id] - sum(counts.values())
    return found


def _statuses_of(connection: Connection, where: ColumnElement[bool]) -> dict[AppId, dict[str, int]]:
    """The same of the matching records."""
    statement = select(record.c.app_id, record.c.status, func.count()).group_by(record.c.app_id, record.c.status)
    found: dict[AppId, dict[str, int]] = {}
    for app_id, status, n in connection.execute(statement.where(where)):
        found.setdefault(app_id, {str(each): 0 for each in SpanStatus})[status] = n
    return found


def _latencies(connection: Connection) -> dict[AppId, _Latencies]:
    """Of all records. Extremes and percentiles are entries of the index, counted from the nearer end."""
    of = record.c
    statement = select(of.app_id, func.count(), func.count(of.duration), func.avg(of.duration)).group_by(of.app_id)
    found: dict[AppId, _Latencies] = {}
    for app_id, records, n, mean in connection.execute(
        statement.with_hint(record, "INDEXED BY record_latency", "sqlite")
    ):
        found[app_id] = _NO_LATENCIES._replace(records=records)
        if n:
            ended = select(of.duration).where(of.app_id == app_id, of.duration.is_not(None)).limit(1)
            rising, falling = ended.order_by(of.duration), ended.order_by(of.duration.desc())
            half, most = (_rank(n, share) for share in PERCENTILES)
            entries = (rising, falling, rising.offset(half - 1), falling.offset(n - most))
            read = connection.execute(select(*(entry.scalar_subquery() for entry in entries))).one()
            found[app_id] = _Latencies(records, n, mean, *read)
    return found


def _rank(n: Any, share: int) -> Any:
    """The nearest rank, from 1."""
    return (n * share + 99) // 100


def _latencies_of(connection: Connection, where: ColumnElement[bool]) -> dict[AppId, _Latencies]:
    """Of the matching records of every app version."""
    inner = (
        select(
            record.c.app_id,
            record.c.duration,
            func.row_number().over(partition_by=record.c.app_id, order_by=record.c.duration).label("place"),
            func.count().over(partition_by=record.c.app_id).label("n"),
        )
        .where(record.c.duration.is_not(None), where)
        .subquery()
    )
    duration = inner.c.duration
    percentiles = (func.max(case((inner.c.place == _rank(inner.c.n, share), duration))) for share in PERCENTILES)
    figures = (func.count(), func.avg(duration), func.min(duration), func.max(duration), *percentiles)
    statement = select(inner.c.app_id, *figures).group_by(inner.c.app_id)
    return {app_id: _Latencies(n, n, *values) for app_id, n, *values in connection.execute(statement)}


def _sums(connection: Connection, where: ColumnElement[bool] | None) -> dict[AppId, Sums]:
    """Tokens and money of the records that reported any."""
    of = record.c
    figures = (func.sum(of.input_tokens), func.sum(of.output_tokens), func.sum(of.cost))
    # In the words of the index record_usage.
    reports = or_(of.input_tokens.is_not(None), of.output_tokens.is_not(None), of.cost.is_not(None))
    statement = select(of.app_id, *figures).where(reports).group_by(of.app_id)
    return {app_id: tuple(values) for app_id, *values in connection.execute(_where(statement, where))}


_value = score.c.value
_group = (score.c.app_id, score.c.name, score.c.status, score.c.value_type)
_moments = (func.count(), func.count(_value), func.sum(_value), func.sum(_value * _value))
# In the words of the index score_app.
_of_a_record = score.c.record_id.is_not(None)


def _metrics(connection: Connection) -> Metrics:
    """All scores. What is least and most is looked up for each group: the index is in that order."""
    labels = ("n", "n_values", "total", "squares")
    moments = (moment.label(label) for moment, label in zip(_moments, labels, strict=True))
    groups = select(*_group, *moments).where(_of_a_record).group_by(*_group).subquery("groups")
    other = score.alias("other")
    same = (
        other.c.app_id.is_not_distinct_from(groups.c.app_id),
        *(other.c[name] == groups.c[name] for name in ("name", "status", "value_type")),
        other.c.record_id.is_not(None),
    )
    extremes = (select(end(other.c.value)).where(*same).scalar_subquery() for end in (func.min, func.max))
    return _by_app(connection.execute(select(groups, *extremes)))


def _metrics_of(connection: Connection, where: ColumnElement[bool], matching: int) -> Metrics:
    """The scores of the matching records, which are so many."""
    statement = select(*_group, *_moments, func.min(_value), func.max(_value)).where(_of_a_record).group_by(*_group)
    if matching <= MANY:
        statement = statement.join_from(record, score, score.c.record_id == record.c.id).where(where)
    else:
        matches = score.c.record_id.in_(select(record.c.id).where(where).correlate(None))
        statement = statement.where(matches).with_hint(score, "INDEXED BY score_app", "sqlite")
    return _by_app(connection.execute(statement))


def _by_app(groups: Iterable[Sequence[Any]]) -> Metrics:
    found: dict[AppId, dict[str, list[tuple[Any, ...]]]] = {}
    for app_id, name, *figures in groups:
        found.setdefault(app_id, {}).setdefault(name, []).append(tuple(figures))
    return {app_id: [_metric(name, rows) for name, rows in sorted(of.items())] for app_id, of in found.items()}


def _metric(name: str, rows: list[tuple[Any, ...]]) -> MetricCounts:
    statuses = {str(status): 0 for status in ScoreStatus}
    n_values = n_bool = 0
    total = squares = 0.0
    low: float | None = None
    high: float | None = None
    for status, value_type, n, values, summed, squared, least, most in rows:
        statuses[status] = statuses.get(status, 0) + n
        if values and status == ScoreStatus.SCORED:
            n_values += values
            n_bool += values if value_type == "bool" else 0
            total, squares = total + summed, squares + squared
            low = least if low is None else min(low, least)
            high = most if high is None else max(high, most)
    mean = total / n_values if n_values else None
    variance = None
    if n_values > 1:
        # Rounding can take it just below zero when all values are equal.
        variance = max(0.0, (squares - total * total / n_values) / (n_values - 1))
    return MetricCounts(name, sum(statuses.values()), statuses, mean, variance, low, high, n_values, n_bool)


def _where(statement: Select[Any], where: ColumnElement[bool] | None) -> Select[Any]:
    return statement if where is None else statement.where(where)
