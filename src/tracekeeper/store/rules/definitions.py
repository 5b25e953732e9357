"""Rules as they are stored: made, changed, listed, removed; what they have spent, and what a filter would give them.

How a rule is applied to records is in ``rules.looks`` (what there is to decide) and ``rules.rounds`` (what is decided).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple

from sqlalchemy import (
    ColumnElement,
    Connection,
    Select,
    and_,
    case,
    delete,
    func,
    insert,
    literal,
    not_,
    or_,
    select,
    update,
)

from tracekeeper.journal.frames import Definition
from tracekeeper.store.statements import DEFINE
from tracekeeper.store.tables import record, rule, rule_day, rule_session, rule_wait, score, score_attempt, span

NANOSECONDS_OF_A_DAY = 86_400 * 10**9
RECENT = 10_000
"""Scores from which the mean cost is taken while none of the present day is known."""


class RuleRow(NamedTuple):
    """A rule. Times and ``idle_after`` are nanoseconds; ``spans`` and ``metrics`` are JSON."""

    id: int
    name: str
    enabled: int
    target: str
    filter: str
    spans: str
    metrics: str
    sample: float
    daily_evaluations: int | None
    daily_cost: float | None
    idle_after: int
    created_at: int
    changed_at: int
    cursor: int
    cursor_version: int
    matched: int
    judged: int
    not_sampled: int
    over_budget: int
    error: str | None


class Spent(NamedTuple):
    """What a rule has spent on a day (UTC), and what it holds open."""

    evaluations: int
    cost: float
    mean: float | None
    """Mean cost of a score: of that day's, or of the latest before it; ``None`` as long as none is known."""
    open: int
    """Scores that it asked for and that have not settled."""


def rules(connection: Connection, name: str | None = None) -> list[RuleRow]:
    """All rules in the order in which they were made, or the one of that name."""
    statement = select(*_columns).order_by(rule.c.id)
    if name is not None:
        statement = statement.where(rule.c.name == name)
    return [RuleRow._make(row) for row in connection.execute(statement)]


def put(
    connection: Connection,
    name: str,
    values: Mapping[str, Any],
    definitions: Sequence[Definition],
    *,
    from_beginning: bool,
    now: int,
) -> RuleRow:
    """Make the rule of that name, or change it; in a write transaction. The metrics' definitions are stored with it.

    A rule that is changed goes on where it was. Whoever is applying it at this moment loses: what it decided by the old
    definition is not written.
    """
    for definition in definitions:
        row = (definition.name, definition.version, now, definition.data.decode())
        connection.exec_driver_sql(DEFINE["metric"].text, row)
    known = next(iter(rules(connection, name)), None)
    if known is None:
        newest = 0 if from_beginning else connection.scalar(select(func.max(record.c.id))) or 0
        made = {"id": _new_id(connection), "name": name, **values, "created_at": now, "changed_at": now}
        connection.execute(insert(rule).values(**made, cursor=newest))
    elif any(getattr(known, column) != value for column, value in values.items()):
        if known.target != values["target"]:
            for table in (rule_wait, rule_session):
                connection.execute(delete(table).where(table.c.rule_id == known.id))
        changed = {**values, "changed_at": now, "error": None, "cursor_version": known.cursor_version + 1}
        connection.execute(update(rule).where(rule.c.id == known.id).values(**changed))
    return rules(connection, name)[0]


def _new_id(connection: Connection) -> int:
    """An id that no removed rule had: scores keep the id of the rule that asked for them."""
    latest = select(func.max(rule.c.id)).scalar_subquery()
    asked = select(func.max(score.c.rule_id)).where(score.c.rule_id.is_not(None)).scalar_subquery()
    return int(connection.scalar(select(func.max(func.coalesce(latest, 0), func.coalesce(asked, 0)))) or 0) + 1


def set_enabled(connection: Connection, name: str, enabled: bool, now: int) -> bool:
    """Let a rule be applied, or not; whether there is one of that name."""
    values = {"enabled": int(enabled), "changed_at": now, "cursor_version": rule.c.cursor_version + 1}
    changed = connection.execute(
        update(rule).where(rule.c.name == name, rule.c.enabled != int(enabled)).values(**values)
    )
    return bool(changed.rowcount) or bool(rules(connection, name))


def remove(connection: Connection, name: str, now: int) -> bool:
    """Forget a rule; whether there was one. Its scores stay, but what nobody has begun of them is ``cancelled``."""
    found = next(iter(rules(connection, name)), None)
    if found is None:
        return False
    not_begun = and_(
        score.c.rule_id == found.id,
        score.c.settled_at.is_(None),
        score.c.status == "pending",
        or_(score.c.owner.is_(None), score.c.owner == ""),
    )
    why = f"its rule {name!r} was removed before it ran"
    cancelled = {"status": "cancelled", "reason": why, "settled_at": now, "owner": None, "lease_until": None}
    connection.execute(update(score).where(not_begun).values(**cancelled))
    for table in (rule_wait, rule_session, rule_day):
        connection.execute(delete(table).where(table.c.rule_id == found.id))
    connection.execute(delete(rule).where(rule.c.id == found.id))
    return True


def set_error(connection: Connection, rule_id: int, error: str | None) -> bool:
    """Say why a rule cannot be applied at present; whether that is news."""
    statement = update(rule).where(rule.c.id == rule_id, func.coalesce(rule.c.error, "") != (error or ""))
    return bool(connection.execute(statement.values(error=error)).rowcount)


def spent(connection: Connection, rule_id: int, now: int) -> Spent:
    """What the rule has spent on the day (UTC) of ``now``. Costs what that day's scores cost to read, not all."""
    begin = now - now % NANOSECONDS_OF_A_DAY
    end = begin + NANOSECONDS_OF_A_DAY
    own = score.c.rule_id == rule_id
    today = and_(own, score.c.settled_at >= begin, score.c.settled_at < end)
    cost, mean = connection.execute(select(func.sum(score.c.cost), func.avg(score.c.cost)).where(today)).one()
    # An earlier attempt of today belongs to a score that has settled again since, or is open.
    since = and_(own, or_(score.c.settled_at >= begin, score.c.settled_at.is_(None)))
    earlier = connection.scalar(
        select(func.sum(score_attempt.c.cost))
        .join_from(score, score_attempt, score_attempt.c.score_id == score.c.id)
        .where(since, score_attempt.c.settled_at >= begin, score_attempt.c.settled_at < end)
    )
    if mean is None:
        recent = select(score.c.cost).where(own).order_by(score.c.settled_at.desc()).limit(RECENT).subquery()
        mean = connection.scalar(select(func.avg(recent.c.cost)))
    open_ones = connection.scalar(select(func.count()).select_from(score).where(own, score.c.settled_at.is_(None)))
    return Spent(evaluations_on(connection, rule_id, now), (cost or 0.0) + (earlier or 0.0), mean, open_ones or 0)


def evaluations_on(connection: Connection, rule_id: int, now: int) -> int:
    """Evaluations that the rule has asked for on the day of ``now``."""
    own = and_(rule_day.c.rule_id == rule_id, rule_day.c.day == day_of(now))
    return connection.scalar(select(rule_day.c.evaluations).where(own)) or 0


def day_of(now: int) -> str:
    """The day (UTC) of a time.

    >>> day_of(1_700_000_000 * 10**9)
    '2023-11-14'
    """
    return datetime.fromtimestamp(now // 10**9, UTC).date().isoformat()


def matches_all(connection: Connection, where: ColumnElement[bool]) -> int:
    """How many records there are if a condition holds for every one of them, else 0. Ends at the first that differs."""
    differs = select(literal(1)).select_from(record).where(not_(where)).limit(1)
    return 0 if connection.scalar(differs) else count_records(connection)


def count_records(connection: Connection) -> int:
    """How many records are stored."""
    return connection.scalar(select(func.count()).select_from(record)) or 0


class Target(NamedTuple):
    """Something that a rule would judge; ``have``: how many of its scores are there already."""

    trace_id: str
    span_id: str
    session_id: str
    have: int


def targets(
    connection: Connection,
    where: ColumnElement[bool] | None,
    target: str,
    spans: Mapping[str, str],
    names: Sequence[tuple[str, str, str]],
    rule_id: int,
) -> Iterator[Target]:
    """What a rule with this filter would judge of what is stored; ``names``: (score name, metric version, source).

    What only another rule has skipped is not there already: this rule may choose it.
    """
    nothing = literal("")
    if target == "session":
        matching = select(record.c.session_id).distinct().where(record.c.session_id.is_not(None))
        found = (matching if where is None else matching.where(where)).subquery()
        key: tuple[Any, Any, Any] = (nothing, nothing, found.c.session_id)
        source: Select[Any] = select().select_from(found)
    elif target == "span":
        of_record = and_(record.c.trace_id == span.c.trace_id, record.c.span_id == span.c.record_span_id)
        source = select().select_from(record.join(span, of_record))
        source = source.where(*(span.c[column] == value for column, value in spans.items()))
        source = source if where is None else source.where(where)
        key = (span.c.trace_id, span.c.span_id, nothing)
    else:
        source = select().select_from(record) if where is None else select().select_from(record).where(where)
        key = (record.c.trace_id, record.c.span_id, nothing)
    one_of = [and_(score.c.name == n, score.c.metric_version == v, score.c.source == s) for n, v, s in names]
    left_by_another = and_(
        score.c.status == "skipped",
        score.c.attempt == 0,
        func.coalesce(score.c.rule_id, rule_id) != rule_id,
    )
    have = (
        select(func.coalesce(func.sum(case((or_(*one_of), 1), else_=0)), 0))
        .where(
            *(score.c.trace_id == key[0], score.c.span_id == key[1], score.c.session_id == key[2]),
            *(score.c.target == target, score.c.author == "", not_(left_by_another)),
        )
        .scalar_subquery()
    )
    for row in connection.execution_options(yield_per=1_000).execute(source.add_columns(*key, have)):
        yield Target._make(row)


_columns = [rule.c[name] for name in RuleRow._fields]
