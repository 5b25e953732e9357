"""The statements about scores whose owner or producer is gone: see ``claims.losses``.

``LAPSE`` and ``FAIL_LOST`` take a score from an owner that lost it, ``ARCHIVE_LAPSED`` keeps what is known of that
attempt. ``FREE_LAPSED``, ``FREE_REST`` and ``FAIL_LOCAL`` say what becomes of what a producer has left.
"""

from __future__ import annotations

from typing import Any, Final

from sqlalchemy import ColumnElement, exists, literal_column, null, or_, select, text, update
from sqlalchemy.dialects.sqlite import insert

from tracekeeper.store.claims.statements import ONE, OWN, PENDING, RUNNING, UNHELD, ZERO
from tracekeeper.store.score_statements import NOBODY
from tracekeeper.store.statements import hot, p
from tracekeeper.store.tables import OWNED, journal, score, score_attempt

_lapsed: Final = or_(score.c.lease_until.is_(None), score.c.lease_until < p("now"), score.c.lease_until > p("horizon"))
FIND_LAPSED: Final = hot(
    select(score.c.id, score.c.lost, score.c.status, score.c.owner)
    .where(
        text(OWNED), score.c.owner > NOBODY, text("+status IN ('pending', 'running')"), score.c.local == ZERO, _lapsed
    )
    .limit(p("limit_"))
    .offset(ZERO),
    *("now", "horizon", "limit_"),
)
"""Claimed scores whose lease has run out, or ends so late that a clock must have been set back since."""

FIND_OWNED: Final = hot(
    select(score.c.id, score.c.lost, score.c.status, score.c.owner).where(OWN, score.c.local == ZERO), "owner_"
)
FIND_RUNNING: Final = hot(
    select(score.c.id, score.c.lost, score.c.status, score.c.owner).where(
        score.c.journal_id == p("journal"), RUNNING, score.c.local == ZERO, score.c.owner.is_(None)
    ),
    "journal",
)
"""What a producer began and nobody claimed."""


def _silent(status: ColumnElement[bool]) -> Any:
    """Live producers that have not been heard of, except the one who asks, with scores that others could compute."""
    return (
        select(journal.c.id, journal.c.name)
        .where(
            text("state = 'live'"),  # in the words of the index journal_live
            journal.c.name != p("owner_"),
            or_(journal.c.seen_at < p("since"), journal.c.seen_at > p("until")),
            exists()
            .select_from(score)
            .where(score.c.journal_id == journal.c.id, status, score.c.local == ZERO, score.c.owner.is_(None))
            .correlate(journal),
        )
        .order_by(journal.c.id)
    )


_silent_names: Final = ("owner_", "since", "until")
SILENT_PENDING: Final = hot(_silent(PENDING), *_silent_names)
SILENT_RUNNING: Final = hot(_silent(RUNNING), *_silent_names)

_left: Final = (
    select(score.c.id)
    .where(score.c.journal_id == p("journal"), PENDING, score.c.local == ZERO, score.c.owner.is_(None))
    .limit(p("limit_"))
    .offset(ZERO)
)
FREE_LAPSED: Final = hot(update(score).values(journal_id=null()).where(score.c.id.in_(_left)), *("journal", "limit_"))
"""What a silent producer had not begun waits for anybody; for the producer too, until it is claimed."""

_lost_attempt: Final = insert(score_attempt).from_select(
    ["score_id", "attempt", "status", "reason", "started_at", "settled_at", "lapsed"],
    select(
        *(score.c.id, score.c.attempt, literal_column("'cancelled'"), p("why"), score.c.started_at, p("now"), ONE)
    ).where(score.c.id == p("row")),
)
ARCHIVE_LAPSED: Final = hot(
    _lost_attempt.on_conflict_do_update(index_elements=["score_id", "attempt"], set_={"lapsed": ONE}),
    *("why", "now", "row"),
)
"""An attempt that its owner lost or gave up."""

LAPSE: Final = hot(
    update(score)
    .values(
        {
            "status": literal_column("'pending'"),
            "owner": NOBODY,
            "lease_until": null(),
            "journal_id": null(),
            "started_at": null(),
            "reason": p("why"),
            "lost": p("lost_"),
            "available_at": p("available"),
        }
    )
    .where(score.c.id == p("row")),
    *("why", "lost_", "available", "row"),
)
"""A score waits to be claimed again after its owner lost it."""

FAIL_LOST: Final = hot(
    update(score)
    .values(
        {
            "status": literal_column("'failed'"),
            "owner": NOBODY,
            "lease_until": null(),
            "journal_id": null(),
            "available_at": null(),
            "reason": p("why"),
            "lost": score.c.lost + ONE,
            "settled_at": p("now"),
        }
    )
    .where(score.c.id == p("row")),
    *("why", "now", "row"),
)
"""A score lost its owner for the last time."""

_ended: Final[dict[str, Any]] = {
    "status": literal_column("'failed'"),
    "reason": p("why"),
    "settled_at": p("now"),
    "lease_until": null(),
}
FAIL_LOCAL: Final = hot(
    update(score)
    .values(_ended)
    .where(score.c.journal_id == p("journal"), or_(PENDING, RUNNING), score.c.local == ONE, score.c.owner.is_(None)),
    *("why", "now", "journal"),
)
"""What only a dead producer could compute."""
FAIL_LOCAL_OWNED: Final = hot(
    update(score).values({**_ended, "owner": NOBODY, "journal_id": null()}).where(OWN, score.c.local == ONE),
    *("why", "now", "owner_"),
)
"""What only a dead owner could compute."""
FREE_REST: Final = hot(
    update(score)
    .values(journal_id=null())
    .where(score.c.journal_id == p("journal"), PENDING, score.c.local == ZERO, UNHELD),
    "journal",
)
"""What a producer that is gone had not begun waits for anybody."""

WHO: Final = hot(select(journal.c.pid, journal.c.host).where(journal.c.name == p("name_")), "name_")
"""Whose journal it is."""
