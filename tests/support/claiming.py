"""What tests of claims need: a clock that they set, workers with journals of their own, scores that wait."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from tests.support.rows import SECOND, START, Writer, birth, key_of, record, score

from tracekeeper.store.claims.claims import Claim, Wanted
from tracekeeper.store.results import ScoreRow
from tracekeeper.store.rows import SpanWrite
from tracekeeper.store.store import Store

LEASE = 30.0
NOW = START + 1000 * SECOND
METRICS = [("m", "v")]


def hear(store: Store, *writers: Writer, now: int = NOW) -> None:
    """The store has just heard of these."""
    for writer in writers:
        store.renew_producer(writer.id, now)


def waiting(writer: Writer, *names: str, now: int = NOW, mode: str = "deferred", **fields: Any) -> SpanWrite:
    """A record of this journal with scores that wait for a worker; its producer was heard of just now."""
    births = [birth(name, local=False, mode=mode, **fields) for name in names or ("m",)]
    write = record(*births)
    writer.apply(write)
    hear(writer.store, writer, now=now)
    return write


def result(writer: Writer, claim: Claim, status: str = "scored", **fields: Any) -> Any:
    """The owner's outcome of a claim goes the way of every score."""
    from tracekeeper.journal.frames import ScoreFrame

    values: dict[str, Any] = {"value": 0.5 if status == "scored" else None, "attempt": claim.attempt, **fields}
    frame = ScoreFrame(
        claim.target,
        claim.name,
        status,
        trace_id=bytes.fromhex(claim.trace_id),
        span_id=bytes.fromhex(claim.span_id),
        session_id=claim.session_id,
        metric_version=claim.metric_version,
        source=claim.source,
        local=False,
        **values,
    )
    return writer.apply(scores=[frame])


def wanted(write: SpanWrite, name: str = "m", *, local: bool = False, **fields: Any) -> Wanted:
    trace_id, span_id = key_of(write)
    return Wanted("record", trace_id, span_id, "", name, "v", "code", "background", local, **fields)


def the_score(store: Store, write: SpanWrite, name: str = "m") -> ScoreRow:
    (row,) = (row for row in store.scores_by_key([key_of(write)]) if row.name == name)
    return row


def ids(claims: Iterable[Claim]) -> list[int]:
    return [each.score_id for each in claims]


__all__ = ["LEASE", "METRICS", "NOW", "SECOND", "hear", "ids", "result", "score", "the_score", "waiting", "wanted"]
