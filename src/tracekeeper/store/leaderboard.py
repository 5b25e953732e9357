"""The leaderboard: what the records of each app version add up to, computed by the database.

Without a filter every statement is served by a covering index alone (``record_latency``, ``score_app``) and no row is
read; percentiles are the n-th entry of that index. With a filter the matching records are ranked once. A percentile is
the nearest rank: the smallest latency that at least so many of a hundred records do not exceed.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import ColumnElement, Connection, and_, case, func, literal_column, or_, select

from tracekeeper.store.results import LeaderboardRow, MetricCounts
from tracekeeper.store.tables import app, record, score
from tracekeeper.types import ScoreStatus, SpanStatus

PERCENTILES = (50, 95)


def leaderboard(connection: Connection, where: ColumnElement[bool] | None) -> list[LeaderboardRow]:
    """See ``Store.leaderboard``."""
    names = {row.id: (row.name, row.version) for row in connection.execute(select(app.c.id, app.c.name, app.c.version))}
    latencies = _ranked(connection, where) if where is not None else None
    metrics = _metrics(connection, where)
    rows = []
    for row in connection.execute(_records(where)):
        if latencies is not None:
            p50, p95 = latencies.get(row.app_id, (None, None))
        else:
            p50, p95 = (_nth(connection, row.app_id, row.n_latency, share) for share in PERCENTILES)
        name, version = names.get(row.app_id, (None, None))
        rows.append(
            LeaderboardRow(
                app=name,
                version=version,
                records=row.n,
                statuses={str(status): getattr(row, f"n_{status}") for status in SpanStatus},
                latency_n=row.n_latency,
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


def _records(where: ColumnElement[bool] | None) -> Any:
    statement = select(
        record.c.app_id,
        func.count().label("n"),
        *(
            func.coalesce(func.sum(case((record.c.status == literal_column(f"'{status}'"), 1), else_=0)), 0).label(
                f"n_{status}"
            )
            for status in SpanStatus
        ),
        func.count(record.c.duration).label("n_latency"),
        func.avg(record.c.duration).label("mean"),
        func.min(record.c.duration).label("shortest"),
        func.max(record.c.duration).label("longest"),
        func.sum(record.c.input_tokens).label("input_tokens"),
        func.sum(record.c.output_tokens).label("output_tokens"),
        func.sum(record.c.cost).label("cost"),
    ).group_by(record.c.app_id)
    return statement if where is None else statement.where(where)


def _nth(connection: Connection, app_id: int | None, n: int, share: int) -> int | None:
    if not n:
        return None
    statement = (
        select(record.c.duration)
        .where(record.c.app_id == app_id, record.c.duration.is_not(None))
        .order_by(record.c.duration)
        .limit(1)
        .offset((n * share + 99) // 100 - 1)
    )
    return connection.scalar(statement)


def _ranked(connection: Connection, where: ColumnElement[bool]) -> dict[int | None, tuple[int | None, int | None]]:
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
    return {app_id: (p50, p95) for app_id, p50, p95 in connection.execute(statement)}


def _metrics(connection: Connection, where: ColumnElement[bool] | None) -> dict[int | None, list[MetricCounts]]:
    is_value = and_(score.c.status == literal_column("'scored'"), score.c.value.is_not(None))
    value = case((is_value, score.c.value))
    owner = score.c.app_id if where is None else record.c.app_id
    statement = (
        select(
            owner,
            score.c.name,
            score.c.status,
            func.count(),
            func.count(value),
            func.sum(value),
            func.sum(value * value),
            func.min(value),
            func.max(value),
            func.count(case((and_(is_value, score.c.value_type == literal_column("'bool'")), 1))),
        )
        .where(score.c.record_id.is_not(None))  # in the words of the index score_app
        .group_by(owner, score.c.name, score.c.status)
    )
    if where is not None:
        statement = statement.join_from(record, score, score.c.record_id == record.c.id).where(where)
    found: dict[int | None, dict[str, list[tuple[Any, ...]]]] = {}
    for app_id, name, *figures in connection.execute(statement):
        found.setdefault(app_id, {}).setdefault(name, []).append(tuple(figures))
    return {app_id: [_metric(name, rows) for name, rows in sorted(of.items())] for app_id, of in found.items()}


def _metric(name: str, rows: list[tuple[Any, ...]]) -> MetricCounts:
    statuses = {str(status): 0 for status in ScoreStatus}
    n_values = n_bool = 0
    total = squares = 0.0
    low: float | None = None
    high: float | None = None
    for status, n, values, summed, squared, least, most, bools in rows:
        statuses[status] = statuses.get(status, 0) + n
        if values:
            n_values, n_bool = n_values + values, n_bool + bools
            total, squares = total + summed, squares + squared
            low = least if low is None else min(low, least)
            high = most if high is None else max(high, most)
    mean = total / n_values if n_values else None
    variance = None
    if n_values > 1:
        # Rounding can take it just below zero when all values are equal.
        variance = max(0.0, (squares - total * total / n_values) / (n_values - 1))
    return MetricCounts(name, sum(statuses.values()), statuses, mean, variance, low, high, n_values, n_bool)
