"""The account of what was written, stored, left and dropped."""

from __future__ import annotations

import msgspec


class Receipt(msgspec.Struct, frozen=True, kw_only=True):
    """What became of everything this process traced, read from one ledger (journal and store agree by construction).

    ``journaled == stored + pending`` always holds, in spans.

    Parameters
    ----------
    journaled:
        Spans written to the journal since the process began tracing into this directory.
    stored:
        Of these, spans that are in the store (running ones included).
    pending:
        Of these, spans still only in the journal: they are on disk and will be shipped by whoever comes next.
    dropped:
        Spans and payloads that could not be kept, by reason (journal full, disk full, encoding failed). Usually empty.
    scores:
        Scores of this process's records by status.
    complete:
        Whether nothing is pending: every span journaled before the call is in the store.
    error:
        Why it is not complete, in one sentence; ``None`` when it is.
    seconds:
        How long the flush took.
    """

    journaled: int = 0
    stored: int = 0
    pending: int = 0
    dropped: dict[str, int] = {}
    scores: dict[str, int] = {}
    complete: bool = True
    error: str | None = None
    seconds: float = 0.0
