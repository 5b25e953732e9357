"""How many scores are claimed, by whom, and how many of these claims have lapsed."""

from __future__ import annotations

from typing import NamedTuple

from sqlalchemy import Connection, case, func, select, text

from tracekeeper.store.tables import OWNED, score


class LeaseCounts(NamedTuple):
    """The claims of one owner."""

    owner: str
    """Name of its journal."""
    held: int
    lapsed: int
    """Of these, how many it did not renew in time: whoever looks next frees them."""


def lease_counts(connection: Connection, now_ns: int) -> list[LeaseCounts]:
    """By owner; served by the index ``score_owner``, in whose words it asks."""
    of = score.c
    lapsed = func.sum(case((of.lease_until < now_ns, 1), else_=0))
    statement = select(of.owner, func.count(), lapsed).where(text(OWNED)).group_by(of.owner).order_by(of.owner)
    return [LeaseCounts._make(row) for row in connection.execute(statement)]
