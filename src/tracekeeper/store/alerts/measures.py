"""What alerts measure: figures of the records that began, or of the scores that settled, within a time.

Each question is one walk along one index (``record_started``, ``score_settled``), which holds all that it asks unless
there is a filter; then each entry's record is looked up too. What several alerts ask alike is asked once.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, Connection, Select, case, exists, func, select

from tracekeeper.store.filter import parse
from tracekeeper.store.filter.compile import compile_node
from tracekeeper.store.tables import record, score
from tracekeeper.types import FilterError, ScoreStatus, SpanStatus

_TRIED = (ScoreStatus.SCORED, ScoreStatus.FAILED, ScoreStatus.TIMED_OUT, ScoreStatus.CANCELLED)
_BAD = (ScoreStatus.FAILED, ScoreStatus.TIMED_OUT)


class Question(NamedTuple):
    """What is measured. Times are nanoseconds since the epoch."""

    measure: str
    """``mean``, ``failure_rate``, ``latency``, ``latency_p95`` or ``cost``."""
    score: str | None
    """Of which score; ``None``: of calls."""
    filter: str
    since: int
    until: int


class Figure(NamedTuple):
    """An answer. ``value`` is ``None`` when there is nothing to make it of."""

    value: float | None
    n: int
    """Scores or records that it is made of."""
    error: str | None = None
    """Why it could not be measured."""


class _Calls(NamedTuple):
    ended: int
    errors: int
    durations: int
    seconds: float
    costs: int
    cost: float


class _Scores(NamedTuple):
    tried: int
    bad: int
    values: int
    total: float
    costs: int
    cost: float


def measure(connection: Connection, questions: Sequence[Question]) -> list[Figure]:
    """The answers, in order; all of one state of the database.

    A question that cannot be asked (its filter no longer parses) gets a figure with ``error``; the others are answered.
    """
    known: dict[tuple[Any, ...], _Calls | _Scores | Figure] = {}
    answers = []
    for question in questions:
        # The 95th percentile needs a walk of its own; everything else of one window comes out of the same one.
        own = question.measure if question.measure == "latency_p95" else ""
        key = (own, question.score, question.filter, question.since, question.until)
        if key not in known:
            known[key] = _asked(connection, question)
        answers.append(_figure(question.measure, known[key]))
    return answers


def _asked(connection: Connection, question: Question) -> _Calls | _Scores | Figure:
    try:
        condition = _condition(question)
    except FilterError as error:
        return Figure(None, 0, f"its filter does not parse: {str(error).splitlines()[0]}")
    if question.measure == "latency_p95":
        return _p95(connection, question, condition)
    return (
        _calls(connection, question, condition) if question.score is None else _scores(connection, question, condition)
    )


def _figure(wanted: str, found: _Calls | _Scores | Figure) -> Figure:
    match found:
        case Figure():
            return found
        case _Scores():
            match wanted:
                case "mean":
                    return Figure(found.total / found.values if found.values else None, found.values)
                case "failure_rate":
                    return Figure(found.bad / found.tried if found.tried else None, found.tried)
                case _:
                    return Figure(found.cost, found.costs)
        case _Calls():
            match wanted:
                case "latency":
                    mean = found.seconds / found.durations if found.durations else None
                    return Figure(mean, found.durations)
                case "failure_rate":
                    return Figure(found.errors / found.ended if found.ended else None, found.ended)
                case _:
                    return Figure(found.cost, found.costs)


def _condition(question: Question) -> ColumnElement[bool] | None:
    if not question.filter.strip():
        return None
    return compile_node(parse(question.filter), now=question.until)


_begun = record.alias("begun")
"""The records of the window. A filter is asked of each by its row id, in a table of its own: else SQLite, which keeps
no statistics to choose by, would rather begin with all records of an app or a status than with those of the window."""


def _records(question: Question, condition: ColumnElement[bool] | None, *columns: Any) -> Select[Any]:
    of = _begun.c
    statement = select(*columns).select_from(_begun)
    statement = statement.where(of.started_at > question.since, of.started_at <= question.until)
    if condition is None:
        return statement
    return statement.where(exists().where(record.c.id == of.id, condition).correlate(_begun))


def _calls(connection: Connection, question: Question, condition: ColumnElement[bool] | None) -> _Calls:
    of = _begun.c
    figures = (
        func.coalesce(func.sum(case((of.status != str(SpanStatus.RUNNING), 1), else_=0)), 0),
        func.coalesce(func.sum(case((of.status == str(SpanStatus.ERROR), 1), else_=0)), 0),
        func.count(of.duration),
        # Not a sum of integers: a year of nanoseconds, four hundred times, is more than 64 bits hold.
        func.coalesce(func.sum(of.duration / 1e9), 0.0),
        func.count(of.cost),
        func.coalesce(func.sum(of.cost), 0.0),
    )
    return _Calls._make(connection.execute(_records(question, condition, *figures)).one())


def _p95(connection: Connection, question: Question, condition: ColumnElement[bool] | None) -> Figure:
    """The nearest rank: the smallest latency that at least 95 of a hundred records do not exceed."""
    ended = _begun.c.duration.is_not(None)
    n = connection.scalar(_records(question, condition, func.count()).where(ended)) or 0
    if not n:
        return Figure(None, 0)
    beyond = n - (n * 95 + 99) // 100
    slowest_first = _records(question, condition, _begun.c.duration).where(ended).order_by(_begun.c.duration.desc())
    duration = connection.scalar(slowest_first.limit(1).offset(beyond))
    return Figure(None if duration is None else duration / 1e9, n)


def _scores(connection: Connection, question: Question, condition: ColumnElement[bool] | None) -> _Scores:
    of = score.c
    figures = (func.count(), func.count(of.value), func.sum(of.value), func.count(of.cost), func.sum(of.cost))
    statement = (
        select(of.status, *figures)
        .where(of.name == question.score, of.settled_at > question.since, of.settled_at <= question.until)
        # In the words of the index score_settled.
        .where(of.settled_at.is_not(None))
        .group_by(of.status)
    )
    if condition is not None:
        statement = statement.where(exists().where(record.c.id == of.record_id, condition).correlate(score))
    tried = bad = values = costs = 0
    total = cost = 0.0
    for status, n, with_value, summed, with_cost, spent in connection.execute(statement):
        costs, cost = costs + with_cost, cost + (spent or 0.0)
        if status in _TRIED:
            tried += n
        if status in _BAD:
            bad += n
        if status == ScoreStatus.SCORED:
            values, total = with_value, summed or 0.0
    return _Scores(tried, bad, values, total, costs, cost)
