"""The account of what was written, stored, left and dropped."""

from __future__ import annotations

import msgspec


class Copies(msgspec.Struct, frozen=True, kw_only=True):
    """What became of the copies to an OTLP endpoint, in spans, since that endpoint was first configured.

    They are made of what is stored, whichever process stored it, so these figures are of the store, not of a process.

    Parameters
    ----------
    endpoint:
        Its URL.
    copied:
        Spans that the endpoint took.
    pending:
        Spans that are stored and not there yet, running ones included.
    dropped:
        Spans that will not be there, by reason: refused by the endpoint, or too many were waiting for it.
    error:
        Why it takes nothing at present; ``None`` when it does.
    """

    endpoint: str
    copied: int = 0
    pending: int = 0
    dropped: dict[str, int] = {}
    error: str | None = None


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
    copies:
        What became of the copies to ``otlp_endpoint``; ``None`` where there is none. They hold back nothing, and
        ``complete`` does not speak of them.
    """

    journaled: int = 0
    stored: int = 0
    pending: int = 0
    dropped: dict[str, int] = {}
    scores: dict[str, int] = {}
    complete: bool = True
    error: str | None = None
    seconds: float = 0.0
    copies: Copies | None = None
