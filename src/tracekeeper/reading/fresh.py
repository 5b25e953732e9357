"""Reading one's own writes: before anything is read, what was journaled is stored.

Also what dead processes of this directory left. Both are bounded in time; where they cannot be done (the database is
locked, the disk is full) the reader gets what the store has, and a note that says so. Nothing is silently stale.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, NamedTuple

from tracekeeper.scoring.overdue import settle_overdue_now
from tracekeeper.scoring.waiting import LONGEST
from tracekeeper.store.filter import parse
from tracekeeper.tracing import runtime
from tracekeeper.types import ConfigurationError, FilterError, StoreError

if TYPE_CHECKING:  # at run time the keeper opens it, so that writing (tk.score, tk.flush) costs no database layer
    from tracekeeper.store.store import Store

TIMEOUT = 5.0
"""Seconds a read waits by default until everything journaled before it is stored."""


class Fresh(NamedTuple):
    """A store that is as up to date as could be had, and a note when that is not quite."""

    keeper: runtime.Keeper
    store: Store
    note: str | None


def fresh(timeout: float = TIMEOUT) -> Fresh:
    """Store everything journaled before this call (and what dead processes left), within ``timeout`` seconds.

    Raises
    ------
    StoreError
        When the database cannot even be read.
    """
    keeper = runtime.keeper()
    reason = keeper.ship(seconds(timeout))
    note = f"not everything traced before this read is in it yet: {reason}" if reason else None
    if reason is None:
        try:
            settle_overdue_now(keeper)
        except StoreError as error:  # a read is not refused for what the next one can settle
            note = f"scores past settle_within are not settled yet: {error}"
    return Fresh(keeper, keeper.store(), note)


def checked(filter: str | None) -> str | None:
    """A filter that parses. A typo is told before anything is waited for.

    Raises
    ------
    FilterError
        It is no text, or does not parse.
    """
    if filter is None:
        return None
    if not isinstance(filter, str):
        raise FilterError(f"filter={filter!r}: expected a text such as 'app = \"rag\" and latency > 2s'")
    if filter.strip():
        parse(filter)
    return filter


def seconds(timeout: float) -> float:
    """A timeout that is one.

    Raises
    ------
    ConfigurationError
        It is no number of seconds.
    """
    good = isinstance(timeout, int | float) and not isinstance(timeout, bool)
    if not good or not 0 <= timeout <= LONGEST:
        raise ConfigurationError(f"timeout={timeout!r}: expected a number of seconds, 0 or more")
    return timeout


def dropped(store: Store) -> dict[str, int]:
    """What all journals of the store had to drop, by reason."""
    total: Counter[str] = Counter()
    for row in store.journal_rows():
        total.update(row.dropped)
    return dict(total)


def dropped_line(counts: dict[str, int]) -> list[str]:
    """A line for people, or none when nothing was dropped.

    >>> dropped_line({"journal full": 3}), dropped_line({})
    (['dropped: 3 (journal full)'], [])
    """
    present = {reason: n for reason, n in counts.items() if n}
    return [f"dropped: {', '.join(f'{n:,} ({reason})' for reason, n in sorted(present.items()))}"] if present else []
