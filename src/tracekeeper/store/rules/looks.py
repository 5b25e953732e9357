"""What a rule has to decide next, read without a lock.

A *look* reads the next records behind a rule's cursor, and those that it had put off, and says of each: it matches, it
does not, or it cannot be decided yet. Nothing is written here. What is decided upon a look is written by a round (see
``rules.rounds``), which is refused if anybody has moved the rule's cursor since: so a look may be as old as it likes.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, Connection, and_, exists, func, literal, not_, or_, select

from tracekeeper.store.filter import Node
from tracekeeper.store.filter.compile import compile_node
from tracekeeper.store.queries import AT_ONCE
from tracekeeper.store.rules.definitions import RuleRow, Spent, spent
from tracekeeper.store.rules.rounds import NEVER
from tracekeeper.store.search.schema import search_cursor, search_deferred
from tracekeeper.store.tables import record, rule, rule_session, rule_wait, score, span
from tracekeeper.types import SpanStatus

AHEAD = 3_600 * 10**9
"""Nanoseconds that clocks may be apart."""


class Due(NamedTuple):
    """A rule, and what there may be for it to decide: nothing when it is paused."""

    rule: RuleRow
    new: bool
    """There are records behind its cursor."""
    waiting: bool
    """It has put some off."""
    idle: bool
    """A session may have been idle for long enough."""


class Candidate(NamedTuple):
    """A record that a rule looks at. Times are nanoseconds."""

    id: int
    trace_id: str
    span_id: str
    app_id: int | None
    status: str
    session_id: str | None
    ended_at: int


class IdleSession(NamedTuple):
    """A session that is due: what the store has of it now."""

    session_id: str
    last_record_id: int
    last_ended_at: int
    running: int
    """Records of it that have not ended."""
    app_id: int | None


class Look(NamedTuple):
    """What a rule has to decide."""

    passed: list[Candidate]
    """What came behind the cursor, oldest first."""
    undecided: set[int]
    """Of these, the ids of those that cannot be decided yet."""
    again: list[Candidate]
    """What had been put off and can be decided now."""
    matching: set[int]
    """Ids, of ``passed`` and ``again``, that the filter is true of."""
    sessions: list[IdleSession]
    more: bool
    """There is more to look at."""
    spent: Spent | None
    """Of a rule with a daily budget of money."""


def due(connection: Connection, now: int) -> list[Due]:
    """Every rule, and what there may be to do for each. One statement."""
    newest = select(func.coalesce(func.max(record.c.id), 0)).scalar_subquery()
    waits = exists().where(rule_wait.c.rule_id == rule.c.id)
    own = rule_session.c.rule_id == rule.c.id
    idle = exists().where(own, rule_session.c.due_at <= now) | exists().where(own, _absurd(now, rule.c.idle_after))
    columns = [rule.c[name] for name in RuleRow._fields]
    enabled = rule.c.enabled == 1
    flags = (and_(enabled, newest > rule.c.cursor), and_(enabled, waits), and_(enabled, idle))
    statement = select(*columns, *flags).order_by(rule.c.id)
    return [Due(RuleRow._make(row[:-3]), *map(bool, row[-3:])) for row in connection.execute(statement)]


def look(
    connection: Connection,
    row: RuleRow,
    node: Node | None,
    *,
    score_names: Collection[str],
    searches: bool,
    after: Sequence[RuleRow],
    waiting: bool,
    limit: int,
    now: int,
) -> Look:
    """The next records of a rule; in a read transaction.

    Parameters
    ----------
    node:
        Its filter; ``None`` for everything.
    score_names:
        Scores that the filter speaks about: a record is undecided while one of them is open.
    searches:
        Whether the filter searches for words: then only what is in the full-text index can be decided.
    after:
        Rules that give such scores: what they have not decided, this one cannot decide either.
    waiting:
        Whether to look at what was put off as well.
    limit:
        Records at most, of either kind.
    now:
        Nanoseconds since the epoch: what relative times in the filter refer to.
    """
    condition = None if node is None else compile_node(node, now=now, connection=connection)
    ready = and_(*_ready(row, score_names, searches, after))
    newest = connection.scalar(select(func.max(record.c.id))) or 0
    upto = min([newest, *(each.cursor for each in after)])
    if searches:
        upto = min(upto, connection.scalar(select(search_cursor.c.position)) or 0)
    behind = and_(record.c.id > row.cursor, record.c.id <= upto)
    rows = connection.execute(_candidates(ready).where(behind).order_by(record.c.id).limit(limit)).all()
    passed = [Candidate._make(each[:-1]) for each in rows]
    undecided = {each.id for each in rows if not each.ready}
    again: list[Candidate] = []
    if waiting:
        put_off = _candidates(ready).join(rule_wait, rule_wait.c.record_id == record.c.id)
        mine = and_(rule_wait.c.rule_id == row.id, ready)
        again = [
            Candidate._make(each[:-1])
            for each in connection.execute(put_off.where(mine).order_by(record.c.id).limit(limit))
        ]
    wanted = [each.id for each in (*passed, *again) if each.id not in undecided]
    matching = set(wanted) if condition is None else _matching(connection, condition, wanted)
    full = len(passed) == limit or len(again) == limit
    # A session is judged only when everything that has arrived of it is known.
    caught_up = row.target == "session" and not full and upto == newest
    sessions = _idle(connection, row, now, limit) if caught_up else []
    money = spent(connection, row.id, now) if row.daily_cost is not None and (matching or sessions) else None
    return Look(passed, undecided, again, matching, sessions, full or len(sessions) == limit, money)


def _candidates(ready: ColumnElement[bool]):  # type: ignore[no-untyped-def]
    ended_at = (record.c.started_at + func.coalesce(record.c.duration, 0)).label("ended_at")
    columns = [ended_at if name == "ended_at" else record.c[name] for name in Candidate._fields]
    return select(*columns, ready.label("ready")).select_from(record)


def _ready(
    row: RuleRow, score_names: Collection[str], searches: bool, after: Sequence[RuleRow]
) -> list[ColumnElement[bool]]:
    """What must hold of a record so that the rule can decide it for good."""
    conditions: list[ColumnElement[bool]] = [record.c.status != SpanStatus.RUNNING.value]
    if score_names:
        its = and_(score.c.record_id == record.c.id, score.c.target == "record", score.c.name.in_(sorted(score_names)))
        is_open = score.c.status.in_(["pending", "running"])
        conditions.append(not_(exists().where(its, is_open).correlate(record)))
    if after:
        before = [each.id for each in after]
        put_off = rule_wait.alias()
        theirs = and_(put_off.c.record_id == record.c.id, put_off.c.rule_id.in_(before))
        conditions.append(not_(exists().where(theirs).correlate(record)))
    if searches:
        deferred = exists().where(search_deferred.c.record_id == record.c.id).correlate(record)
        conditions.append(not_(deferred))
    if row.target == "span":
        inside = and_(span.c.trace_id == record.c.trace_id, span.c.record_span_id == record.c.span_id)
        running = span.c.status == SpanStatus.RUNNING.value
        conditions.append(not_(exists().where(inside, running).correlate(record)))
    return conditions


def _matching(connection: Connection, condition: ColumnElement[bool], ids: Sequence[int]) -> set[int]:
    found: set[int] = set()
    for start in range(0, len(ids), AT_ONCE):
        some = ids[start : start + AT_ONCE]
        found.update(connection.scalars(select(record.c.id).where(record.c.id.in_(some), condition)))
    return found


def _absurd(now: int, idle_after: Any) -> ColumnElement[bool]:
    """Due so far ahead that the clock which said so was wrong, and not just judged (``NEVER``)."""
    return and_(rule_session.c.due_at > idle_after + (now + AHEAD), rule_session.c.due_at < NEVER)


def _idle(connection: Connection, row: RuleRow, now: int, limit: int) -> list[IdleSession]:
    is_due = or_(rule_session.c.due_at <= now, _absurd(now, row.idle_after))
    due_now = (
        select(rule_session.c.session_id)
        .where(rule_session.c.rule_id == row.id, is_due)
        .order_by(rule_session.c.due_at)
        .limit(limit)
    )
    found = []
    ended_at = record.c.started_at + func.coalesce(record.c.duration, 0)
    running = func.sum(record.c.status == literal(SpanStatus.RUNNING.value))
    for session_id in connection.scalars(due_now).all():
        of_session = record.c.session_id == session_id
        last, ended, open_ones = connection.execute(
            select(func.max(record.c.id), func.max(ended_at), running).where(of_session)
        ).one()
        app_id = connection.scalar(select(record.c.app_id).where(record.c.id == last))
        found.append(IdleSession(session_id, last or 0, ended or 0, open_ones or 0, app_id))
    return found
