"""One batch of a journal, ready to be stored: what the shipper plans and the store writes in one transaction.

Everything here is plain data in the store's own form (hex ids, JSON as ``str``, nanoseconds). The shipper decides
what happens (pure, no database); ``Store.apply`` does it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

import msgspec

from tracekeeper.journal.frames import Definition, ItemFrame, ScoreFrame, SpanCheckpoint, SpanEnd, SpanStart


class SpanWrite(msgspec.Struct, frozen=True, gc=False):
    """A span to insert: its start, and its end when it is known.

    ``end is None``: insert as ``running``, or as ``status`` when that is given (``interrupted`` at recovery).
    """

    start: SpanStart
    end: SpanEnd | None = None
    status: str | None = None
    checkpoint: SpanCheckpoint | None = None


@dataclass(slots=True)
class Batch:
    """What one transaction writes, in the order of the fields."""

    definitions: list[Definition] = field(default_factory=list)
    inserts: list[SpanWrite] = field(default_factory=list)
    """Spans that the store does not have yet."""
    checkpoints: list[SpanCheckpoint] = field(default_factory=list)
    """Progress of spans whose ``running`` row is stored already."""
    ends: list[SpanEnd] = field(default_factory=list)
    """Ends of spans whose ``running`` row is stored already."""
    scores: list[ScoreFrame] = field(default_factory=list)
    """In journal order. Births (``ScoreBirth`` in an end) come from the ends above and are stored before these."""
    items: list[ItemFrame] = field(default_factory=list)
    interrupt: bool = False
    """The journal's process is dead and this is its last batch: every span that is still ``running`` with this journal
    becomes ``interrupted``, its open local scores ``failed`` ("its process ended before it ran"), its importable ones
    stay ``pending`` without a lease, and the journal's state becomes ``recovered``."""
    damaged: int = 0
    dropped: dict[str, int] = field(default_factory=dict)
    """Totals so far, from the journal's own counters (replaces what is stored)."""
    cursor: bytes = b""
    cursor_version: int = 0
    """The version this batch expects to find; it writes ``cursor_version + 1``."""


class Applied(NamedTuple):
    """What a batch did."""

    spans: int
    scores: int
    refused: int
    cursor_version: int
