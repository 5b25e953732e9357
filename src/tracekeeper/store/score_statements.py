"""The hot statements about scores: each transition is one statement.

``BEAR`` makes a pending or skipped one, ``REPLACE`` settles it (with ``ARCHIVE`` before and ``KEEP_EARLIER`` after, for
attempts that are not the last). Who may do that is decided by the row's owner: see ``may_write``. How a score gets an
owner and loses it is in ``claims.statements`` and ``claims.loss_statements``. But for ``scores.settle_overdue`` nothing
else in this package writes the status of a score.
"""

from __future__ import annotations

from typing import Any, Final

from sqlalchemy import (
    ColumnElement,
    Select,
    and_,
    case,
    exists,
    func,
    literal_column,
    not_,
    null,
    or_,
    select,
    text,
    update,
)
from sqlalchemy.dialects.sqlite import insert

from tracekeeper.store.statements import Hot, hot, names_of, p
from tracekeeper.store.tables import record, score, score_attempt
from tracekeeper.types import FINAL_SCORE_STATUSES


def is_final(status: ColumnElement[str]) -> ColumnElement[bool]:
    return status.in_([literal_column(f"'{each}'") for each in sorted(FINAL_SCORE_STATUSES)])


def is_open(status: ColumnElement[str]) -> ColumnElement[bool]:
    # In the words of the index score_open.
    return status.in_([literal_column("'pending'"), literal_column("'running'")])


KEY: Final = ("trace_id", "span_id", "session_id", "target", "name", "metric_version", "source", "author")
_key: Final = and_(*(score.c[name] == p(name + "_") for name in KEY))
_key_names: Final = tuple(name + "_" for name in KEY)

_OF_CLAIMS: Final = ("id", "owner", "lease_until", "lost", "available_at", "rule_id")
SCORE_COLUMNS: Final = tuple(name for name in names_of(score) if name not in _OF_CLAIMS)

BEAR: Final = hot(insert(score).on_conflict_do_nothing(index_elements=list(KEY)), column_keys=SCORE_COLUMNS)
"""A pending or skipped score, unless there is one by its key already."""


def _rank(status: ColumnElement[str]) -> ColumnElement[int]:
    """How far a status is: see ``scores.supersedes``."""
    pending = status == literal_column("'pending'")
    running = status == literal_column("'running'")
    return case((pending, literal_column("0")), (running, literal_column("1")), else_=literal_column("2"))


NOBODY: Final[ColumnElement[str]] = literal_column("''")
"""The owner of a score whose last owner lost, released or finished it."""


def may_write(owner: ColumnElement[str], journal_id: ColumnElement[int]) -> ColumnElement[bool]:
    """Whether a journal's frames may change the row.

    A score that was never claimed is anybody's. One that is claimed is its owner's. Once claimed it never becomes
    anybody's again: what its owner finished, only that journal may take further (a retry), and what its owner lost,
    nobody, until it is claimed. An attempt's number alone would not do: whoever lost a score may have begun attempts of
    its own since.
    """
    finished = and_(
        score.c.owner == NOBODY, is_final(score.c.status), score.c.journal_id.is_not_distinct_from(journal_id)
    )
    return or_(score.c.owner.is_(None), score.c.owner == owner, finished)


def _replace() -> Hot:
    statement = insert(score)
    new = statement.excluded
    outcome = (
        *("status", "value", "label", "value_type", "reason", "error", "traceback", "attempt"),
        *("started_at", "settled_at", "cost", "metadata", "journal_id", "evaluation"),
    )
    ended = is_final(new.status)
    further = or_(
        new.attempt > score.c.attempt,
        and_(new.attempt == score.c.attempt, _rank(new.status) > _rank(score.c.status)),
    )
    return hot(
        statement.on_conflict_do_update(
            index_elements=list(KEY),
            set_={
                **{name: new[name] for name in outcome},
                "owner": case((score.c.owner.is_(None), null()), (ended, NOBODY), else_=p("owner_")),
                "lease_until": case(
                    (or_(ended, score.c.owner.is_(None)), null()),
                    (score.c.owner == NOBODY, p("lease_")),  # a retry of what was final in the batch before
                    else_=score.c.lease_until,
                ),
                "available_at": null(),
            },
            where=and_(further, may_write(p("owner_"), new.journal_id)),
        ),
        *(*SCORE_COLUMNS, "owner_", "lease_", "owner_"),
        column_keys=SCORE_COLUMNS,
    )


REPLACE: Final = _replace()
"""An outcome, unless the row is as far already or belongs to somebody else. Of a claimed row it ends the claim."""

_OUTCOME: Final = ("status", "value", "label", "reason", "error", "started_at", "settled_at", "cost", "evaluation")
_SUPERSEDED: Final[ColumnElement[str]] = literal_column("'cancelled'")


def _archived(values: Select[Any]) -> Any:
    """Insert earlier attempts; the real outcome of one replaces the note that it had none when it was replaced."""
    statement = insert(score_attempt).from_select(["score_id", "attempt", *_OUTCOME], values)
    return statement.on_conflict_do_update(
        index_elements=["score_id", "attempt"],
        set_={name: statement.excluded[name] for name in _OUTCOME},
        where=and_(
            score_attempt.c.status == _SUPERSEDED,
            score_attempt.c.settled_at.is_(None),
            score_attempt.c.lapsed == literal_column("0"),
        ),
    )


_settled: Final = {
    "status": case((is_final(score.c.status), score.c.status), else_=_SUPERSEDED),
    "reason": case(
        (is_final(score.c.status), score.c.reason),
        else_=literal_column("'a later attempt replaced it before it settled'"),
    ),
}
ARCHIVE: Final = hot(
    _archived(
        select(score.c.id, score.c.attempt, *(_settled.get(name, score.c[name]) for name in _OUTCOME)).where(
            _key,
            score.c.attempt < p("attempt_"),
            or_(score.c.attempt > literal_column("0"), is_final(score.c.status)),
            may_write(p("owner_"), p("journal_")),
        )
    ),
    *(*_key_names, "attempt_", "owner_", "journal_"),
)
"""What the row says of its attempt, before a higher one replaces it. (A birth that never ran is no attempt.)"""

KEEP_EARLIER: Final = hot(
    _archived(
        select(score.c.id, *(p(name + "_") for name in ("attempt", *_OUTCOME))).where(
            _key, score.c.attempt > p("below")
        )
    ),
    *("attempt_", *(name + "_" for name in _OUTCOME), *_key_names, "below"),
)
"""The outcome of an attempt that a higher one has replaced already."""

IS_REFUSED: Final = hot(
    select(func.count()).select_from(score).where(_key, not_(may_write(p("owner_"), p("journal_")))),
    *(*_key_names, "owner_", "journal_"),
)
"""Whether the row belongs to somebody else."""

IS_LAPSED: Final = hot(
    select(func.count())
    .select_from(score_attempt)
    .where(
        score_attempt.c.score_id == select(score.c.id).where(_key).scalar_subquery(),
        score_attempt.c.attempt == p("attempt_"),
        score_attempt.c.lapsed == literal_column("1"),
    ),
    *(*_key_names, "attempt_"),
)
"""Whether an attempt was lost by its owner: what comes of it later counts for nothing."""


def _of_record(column: Any) -> Any:
    same = (record.c.trace_id == score.c.trace_id, record.c.span_id == score.c.span_id)
    return select(column).where(*same).correlate(score).scalar_subquery()


ADOPT: Final = hot(
    update(score)
    .values(record_id=_of_record(func.min(record.c.id)), app_id=_of_record(func.max(record.c.app_id)))
    .where(
        score.c.trace_id == p("trace"),
        score.c.span_id == p("span"),
        text("score.record_id IS NULL AND score.target = 'record'"),
    ),
    *("trace", "span"),
)
"""Scores whose record was stored after them."""
HAS_ORPHANS: Final = hot(select(exists().select_from(score).where(text("record_id IS NULL AND target = 'record'"))))
SET_APP: Final = hot(update(score).values(app_id=p("app")).where(score.c.record_id == p("record")), "app", "record")
"""A record's end named its app."""
