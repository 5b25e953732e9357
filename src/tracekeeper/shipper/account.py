"""The receipt: what became of everything this process traced, in figures that fit together.

``stored`` is what the store's row of the journal says; ``pending`` is counted by reading the journal on from the cursor
of that same row. So ``journaled == stored + pending`` holds by construction and not because two counters agree.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import NamedTuple

from tracekeeper.journal.cursor import Cursor, Position
from tracekeeper.journal.reader import JournalReader
from tracekeeper.journal.writer import Journal
from tracekeeper.shipper.plan import Planner
from tracekeeper.types import Copies, Receipt

DAMAGED = "damaged frames"
"""The reason under which a receipt counts what was journaled and cannot be read back, or that no table takes."""


class Ledger(NamedTuple):
    """One journal's spans and scores."""

    stored: int = 0
    pending: int = 0
    scores: Mapping[str, int] = {}
    damaged: int = 0


def receipt(
    ledger: Ledger,
    *,
    retired: int,
    dropped: dict[str, int],
    reason: str | None,
    began: float,
    copies: Copies | None = None,
) -> Receipt:
    """The receipt of one keeper.

    Parameters
    ----------
    ledger:
        Of the present journal.
    retired:
        Spans of this process's earlier journals, which were stored whole.
    dropped:
        By reason.
    reason:
        Why not everything is stored, or ``None``.
    began:
        Monotonic time of the call.
    copies:
        What became of the copies to another system.
    """
    if ledger.damaged:
        dropped = {**dropped, DAMAGED: ledger.damaged}
    stored = ledger.stored + retired
    return Receipt(
        journaled=stored + ledger.pending,
        stored=stored,
        pending=ledger.pending,
        dropped=dropped,
        scores=dict(ledger.scores),
        complete=reason is None,
        error=reason,
        seconds=time.monotonic() - began,
        copies=copies,
    )


def unstored(journal: Journal, planner: Planner | None = None, cursor: Cursor | None = None) -> int:
    """Spans of a journal beyond a cursor, read with a reader of one's own (from the beginning without one)."""
    reader = journal.reader()  # not by its name: its files may have been deleted under it
    try:
        return count(reader, planner or Planner(), cursor or Cursor())
    finally:
        reader.close()


def count(reader: JournalReader, planner: Planner, cursor: Cursor) -> int:
    """Spans that a journal beyond ``cursor``, and what ``planner`` holds, would add to the store."""
    frames: list[tuple[Position, bytes]] = []
    while True:
        more, cursor, damaged = reader.read(cursor)
        if not more and not damaged:
            return planner.unstored(frames)
        frames.extend(more)
