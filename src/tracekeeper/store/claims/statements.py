"""The statements of claims: each transition of a score's owner is one statement.

``CLAIM`` and ``CLAIM_OPEN`` give a waiting score an owner, ``BEGIN`` makes one that is claimed from its birth,
``REOPEN`` claims a final one anew, ``RENEW`` prolongs, ``RELEASE`` gives back. What takes a score from an owner is in
``claims.loss_statements``. See ``docs/design/leases.md`` for the states.
"""

from __future__ import annotations

from typing import Any, Final

from sqlalchemy import ColumnElement, Select, and_, case, exists, func, literal_column, null, or_, select, text, update
from sqlalchemy.dialects.sqlite import insert

from tracekeeper.store.score_statements import KEY, NOBODY, is_final, is_open
from tracekeeper.store.statements import hot, p
from tracekeeper.store.tables import CLAIMABLE, OWNED, journal, score, score_attempt, worker

ZERO: Final[ColumnElement[int]] = literal_column("0")
ONE: Final[ColumnElement[int]] = literal_column("1")
PENDING: Final = score.c.status == literal_column("'pending'")
RUNNING: Final = score.c.status == literal_column("'running'")
UNHELD: Final = or_(score.c.owner.is_(None), score.c.owner == NOBODY)
_key: Final = and_(*(score.c[name] == p(name + "_") for name in KEY))
_key_names: Final = tuple(name + "_" for name in KEY)
_journal_of_owner: Final = select(journal.c.id).where(journal.c.name == p("owner_")).scalar_subquery()

CLAIM_FIELDS: Final = (
    *("id", "target", "trace_id", "span_id", "session_id", "name", "metric_version", "source", "author", "record_id"),
    *("app_id", "attempt", "lost", "priority", "mode", "created_at", "rule_id"),
)
"""Columns of a ``Claim``, in order."""
_claimed: Final = tuple(score.c[name] for name in CLAIM_FIELDS)

# -- what waits -------------------------------------------------------------------------------------------------------

_claimable: Final = and_(
    text(CLAIMABLE),  # in the words of the index score_claim
    score.c.name == p("name_"),
    score.c.metric_version == p("version_"),
)
_now: Final = and_(
    # A pause never ends later than ``horizon``: if it says so, a clock was set back since.
    or_(score.c.available_at.is_(None), score.c.available_at <= p("now"), score.c.available_at > p("horizon")),
    or_(p("deferred_") == ONE, score.c.mode != literal_column("'deferred'")),
)
_now_names: Final = ("now", "horizon", "deferred_")


def _waiting(*columns: Any) -> Select[Any]:
    return select(*columns).where(_claimable)


IS_WAITING: Final = hot(_waiting(ONE).where(_now).limit(ONE).offset(ZERO), *("name_", "version_", *_now_names))
"""Whether a score of a metric can be claimed."""

FIRST_APP: Final = hot(_waiting(ONE).where(score.c.app_id.is_(None)).limit(ONE).offset(ZERO), *("name_", "version_"))
"""Whether scores of a metric wait that belong to no app."""
NEXT_APP: Final = hot(
    _waiting(func.min(score.c.app_id)).where(score.c.app_id > p("app")), *("name_", "version_", "app")
)
"""The next app with scores of a metric that wait, by row id."""

WAITING_OF_APP: Final = hot(
    _waiting(
        *(score.c[name] for name in ("priority", "created_at", "id", "trace_id", "span_id", "session_id", "target")),
        *(score.c[name] for name in ("source", "author", "name", "metric_version")),
    )
    .where(score.c.app_id.is_not_distinct_from(p("app")), _now)
    .order_by(score.c.priority, score.c.created_at),
    *("name_", "version_", "app", *_now_names),
)
"""An app's scores of a metric that can be claimed, in the order of claiming; read as far as they are needed."""

FIND_SIBLING: Final = hot(select(score.c.id).where(_key), *_key_names)

FIND_FOR_TAKING: Final = hot(
    select(
        *(score.c[name] for name in ("id", "status", "owner", "lease_until", "attempt", "lost", "mode", "reason")),
        *(score.c.started_at, score.c.journal_id, journal.c.state, journal.c.name, journal.c.seen_at),
    )
    .select_from(score.outerjoin(journal, journal.c.id == score.c.journal_id))
    .where(_key),
    *_key_names,
)
"""What ``claims.take`` decides by."""

COUNT_WAITING: Final = hot(
    select(
        score.c.name,
        score.c.metric_version,
        func.count(),
        func.min(score.c.created_at),
        func.sum(
            case(
                (and_(score.c.owner.is_not(None), score.c.owner != NOBODY), ONE),
                (or_(score.c.owner == NOBODY, score.c.mode == literal_column("'deferred'")), ZERO),
                (
                    and_(
                        journal.c.state == literal_column("'live'"), journal.c.seen_at.between(p("since"), p("until"))
                    ),
                    ONE,
                ),
                else_=ZERO,
            )
        ),
    )
    .select_from(score.outerjoin(journal, journal.c.id == score.c.journal_id))
    .where(is_open(score.c.status), PENDING, score.c.local == ZERO)
    .group_by(score.c.name, score.c.metric_version)
    .order_by(func.min(score.c.created_at)),
    *("since", "until"),
)
"""What waits, by metric: how many, since when, and how many of them somebody is about to compute."""

# -- claiming ---------------------------------------------------------------------------------------------------------

_owned: Final[dict[str, Any]] = {
    "owner": p("owner_"),
    "lease_until": p("lease_"),
    "attempt": score.c.attempt + ONE,
    "available_at": null(),
    "journal_id": _journal_of_owner,
}
CLAIM: Final = hot(
    update(score).values(_owned).where(score.c.id == p("row"), text(CLAIMABLE)).returning(*_claimed),
    *("owner_", "owner_", "lease_", "row"),
)
"""A waiting score gets an owner and its attempt a number."""

CLAIM_OPEN: Final = hot(
    update(score)
    .values({**_owned, "local": p("local_"), "rule_id": func.coalesce(p("rule"), score.c.rule_id)})
    .where(score.c.id == p("row"))
    .returning(*_claimed),
    *("local_", "owner_", "owner_", "lease_", "rule", "row"),
)
"""The same for whoever asked for this very score, local or not."""

_BLANK: Final = ("value", "label", "reason", "error", "traceback", "started_at", "settled_at", "cost", "metadata")
REOPEN: Final = hot(
    update(score)
    .values(
        {
            **_owned,
            **{name: null() for name in (*_BLANK, "evaluation")},
            "status": literal_column("'pending'"),
            "mode": p("mode_"),
            "local": p("local_"),
            "priority": p("priority_"),
            "record_id": func.coalesce(p("record"), score.c.record_id),
            "app_id": func.coalesce(p("app"), score.c.app_id),
            "rule_id": func.coalesce(p("rule"), score.c.rule_id),
            "created_at": p("now"),  # `settle_within` begins anew
            # That its workers were lost is remembered, so that it runs in a process of its own.
            "lost": case((score.c.lost > ZERO, ONE), else_=ZERO),
        }
    )
    .where(score.c.id == p("row"), is_final(score.c.status))
    .returning(*_claimed),
    *("record", "app", "mode_", "local_", "now", "owner_", "owner_", "lease_", "priority_", "rule", "row"),
)
"""A final score is claimed for another attempt."""

_ATTEMPT: Final = (
    *("attempt", "status", "value", "label", "reason", "error", "started_at", "settled_at", "cost", "evaluation"),
)
ARCHIVE_FINAL: Final = hot(
    insert(score_attempt)
    .from_select(
        ["score_id", *_ATTEMPT],
        select(score.c.id, *(score.c[name] for name in _ATTEMPT)).where(
            score.c.id == p("row"), is_final(score.c.status)
        ),
    )
    .on_conflict_do_nothing(),
    "row",
)
"""The outcome that ``REOPEN`` is about to replace."""

_NEW: Final = (
    *("target", "trace_id", "span_id", "session_id", "name", "metric_version", "source", "author", "record_id"),
    *("app_id", "status", "attempt", "mode", "local", "created_at", "owner", "lease_until", "priority", "rule_id"),
)
BEGIN: Final = hot(
    insert(score).values({**{name: p(name) for name in _NEW}, "journal_id": _journal_of_owner}).returning(*_claimed),
    *(
        *("target", "trace_id", "span_id", "session_id", "name", "metric_version", "source", "author", "record_id"),
        *("app_id", "status", "attempt", "mode", "local", "created_at", "owner_", "owner", "lease_until", "priority"),
        "rule_id",
    ),
)
"""A score that is claimed from its birth."""

# -- holding ----------------------------------------------------------------------------------------------------------

OWN: Final = and_(score.c.owner == p("owner_"), text(OWNED), is_open(score.c.status))
OWNS: Final = hot(select(score.c.id).where(OWN), "owner_")
RENEW: Final = hot(update(score).values(lease_until=p("lease_")).where(OWN).returning(score.c.id), "lease_", "owner_")
"""Everything that an owner still has is its own for another lease."""

FIND_OWN: Final = hot(
    select(score.c.status).where(score.c.id == p("row"), score.c.owner == p("owner_"), is_open(score.c.status)),
    *("row", "owner_"),
)
RELEASE: Final = hot(
    update(score)
    .values(
        {
            "status": literal_column("'pending'"),
            "owner": NOBODY,
            "lease_until": null(),
            "journal_id": null(),
            "started_at": null(),
            "available_at": p("available"),
        }
    )
    .where(score.c.id == p("row"), score.c.owner == p("owner_"), is_open(score.c.status)),
    *("available", "row", "owner_"),
)
"""An owner gives a score back."""

RENEW_PRODUCER: Final = hot(
    update(journal).values(seen_at=p("now")).where(journal.c.id == p("journal")), *("now", "journal")
)
HAS_OPEN: Final = hot(
    select(
        exists().select_from(score).where(score.c.journal_id == p("journal"), or_(PENDING, RUNNING)),
    ),
    "journal",
)
"""Whether a journal has scores that are not final."""

# -- who claims -------------------------------------------------------------------------------------------------------

_worker: Final = insert(worker)
REGISTER_WORKER: Final = hot(
    _worker.on_conflict_do_update(
        index_elements=["journal"],
        set_={name: _worker.excluded[name] for name in ("kind", "host", "pid", "started_at", "seen_at", "data")},
    ),
    column_keys=("journal", "kind", "host", "pid", "started_at", "seen_at", "data"),
)
WORKER_SEEN: Final = hot(
    update(worker).values(seen_at=p("now"), data=p("data_")).where(worker.c.journal == p("name_")),
    *("now", "data_", "name_"),
)
REMOVE_WORKER: Final = hot(worker.delete().where(worker.c.journal == p("name_")), "name_")
WORKERS: Final = hot(
    select(*(worker.c[name] for name in ("journal", "kind", "host", "pid", "started_at", "seen_at", "data"))).order_by(
        worker.c.id
    )
)
