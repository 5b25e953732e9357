"""The leaderboard: what the records of each app version add up to, computed by the database.

Without a filter every statement is served by a covering index in its own order (``record_app``, ``record_latency``,
``score_app``): no row is read and nothing is sorted, and a percentile is the n-th entry of an index. With a filter the
matching records are ranked once. A percentile is the nearest rank: the smallest latency that at least so many of a
hundred records do not exceed.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import ColumnElement, Connection, Select, case, func, or_, select

from tracekeeper.store.results import LeaderboardRow, MetricCounts
from tracekeeper.store.tables import app, record, score
from tracekeeper.types import ScoreStatus, SpanStatus

PERCENTILES = (50, 95)

MANY = 10_000
"""Matching records from which on all scores are read in the order of their index, instead of each record's own."""

AppId = int | None
Percentiles = tuple[int | None, ...]


def leaderboard(connection: Connection, where: ColumnElement[bool] | None) -> list[LeaderboardRow]:
    """See ``Store.leaderboard``."""
    names = {row.id: (row.name, row.version) for row in connection.execute(select(app.c.id, app.c.name, app.c.version))}
    statuses = _statuses(connection, where)
    matching = sum(sum(counts.values()) for counts in statuses.values())
    metrics = _metrics(connection, where, matching)
    figures = connection.execute(_where(_figures, where)).all()
    if where is None:
        latencies = {row.app_id: _nth(connection, row.app_id, row.n) for row in figures}
    else:
        latencies = _ranked(connection, where)
    rows = []
    for row in figures:
        name, version = names.get(row.app_id, (None, None))
        p50, p95 = latencies.get(row.app_id, (None, None))
        counts = statuses[row.app_id]
        rows.append(
            LeaderboardRow(
                app=name,
                version=version,
                records=sum(counts.values()),
                statuses=counts,
                latency_n=row.n,
                latency_mean=row.mean,
                latency_min=row.shortest,
                latency_p50=p50,
                latency_p95=p95,
                latency_max=row.longest,
                input_tokens=row.input_tokens,
                output_tokens=row.output_tokens,
                cost=row.cost,
                metrics=tuple(metrics.get(row.app_id, ())),
            )
        )
    return sorted(rows, key=lambda row: (row.app is None, row.app or "", row.version or ""))


_figures = select(
    record.c.app_id,
    func.count(record.c.duration).label("n"),
    func.avg(record.c.duration).label("mean"),
    func.min(record.c.duration).label("shortest"),
    func.max(record.c.duration).label("longest"),
    func.sum(record.c.input_tokens).label("input_tokens"),
    func.sum(record.c.output_tokens).label("output_tokens"),
    func.sum(record.c.cost).label("cost"),
).group_by(record.c.app_id)


def _statuses(connection: Connection, where: ColumnElement[bool] | None) -> dict[AppId, dict[str, int]]:
    """Records by status, also those with 0, of each app version."""
    statement = select(record.c.app_id, record.c.status, func.count()).group_by(record.c.app_id, record.c.status)
    found: dict[AppId, dict[str, int]] = {}
    for app_id, status, n in connection.execute(_where(statement, where)):
        found.setdefault(app_id, {str(each): 0 for each in SpanStatus})[status] = n
    return found


def _nth(connection: Connection, app_id: AppId, n: int) -> Percentiles:
    """The percentiles of an app version with ``n`` latencies."""
    latencies = (
        select(record.c.duration)
        .where(record.c.app_id == app_id, record.c.duration.is_not(None))
        .order_by(record.c.duration)
        .limit(1)
    )
    return tuple(
        connection.scalar(latencies.offset((n * share + 99) // 100 - 1)) if n else None for share in PERCENTILES
    )


def _ranked(connection: Connection, where: ColumnElement[bool]) -> dict[AppId, Percentiles]:
    """The percentiles of the matching records of every app version."""
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
    places = [(inner.c.n * share + 99) // 100 for share in PERCENTILES]
    statement = (
        select(inner.c.app_id, *(func.max(case((inner.c.place == place, inner.c.duration))) for place in places))
        .where(or_(*(inner.c.place == place for place in places)))
        .group_by(inner.c.app_id)
    )
    return {app_id: tuple(values) for app_id, *values in connection.execute(statement)}


def _metrics(
    connection: Connection, where: ColumnElement[bool] | None, matching: int
) -> dict[AppId, list[MetricCounts]]:
    value = score.c.value
    group = (score.c.app_id, score.c.name, score.c.status, score.c.value_type)
    statement = (
        select(*group, func.count(), func.count(value), func.sum(value), func.sum(value * value))
        .add_columns(func.min(value), func.max(value))
        .where(score.c.record_id.is_not(None))  # in the words of the index score_app
        .group_by(*group)
    )
    if where is not None and matching <= MANY:
        statement = statement.join_from(record, score, score.c.record_id == record.c.id).where(where)
    elif where is not None:
        matches = score.c.record_id.in_(select(record.c.id).where(where).correlate(None))
        statement = statement.where(matches).with_hint(score, "INDEXED BY score_app", "sqlite")
    found: dict[AppId, dict[str, list[tuple[Any, ...]]]] = {}
    for app_id, name, *figures in connection.execute(statement):
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
