"""What a metric sees of a single span, and of a session: views like a record's, read from the store.

A session's ``input`` is its first turn's, its ``output`` its last turn's, and its own fields are ``turns`` (a mapping
with ``input``, ``output``, ``at``, ``status`` and ``error`` for each record, in order) and ``session_id``, so that a
metric may say ``def polite(turns)``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tracekeeper.judging import RecordView, SpanView
from tracekeeper.judging.view import SessionView
from tracekeeper.scoring.views import NO_OUTPUT_OF, decoded, mapping, optional_list
from tracekeeper.types import StoreError

if TYPE_CHECKING:
    from tracekeeper.store.targets import Turn
    from tracekeeper.tracing.keeper import Keeper

TURNS = 200
"""Turns of a session that a metric sees at most: the newest."""
TURNS_BYTES = 8 << 20
"""Bytes of captured text that they have together at most."""


def view_of_span(keeper: Keeper, trace_id: bytes, span_id: bytes) -> RecordView:
    """A span as what is judged: its own input, output, context and attributes; ``trace`` is the span alone.

    Raises
    ------
    StoreError
        The store cannot be read, or does not have the span (any more).
    """
    store = keeper.store()
    row = store.span_by_key(trace_id.hex(), span_id.hex())
    if row is None:
        raise StoreError(f"span {trace_id.hex()}:{span_id.hex()} could not be read back: it is not stored")
    payload = store.payloads([row.id]).get(row.id)
    text_in, text_out = getattr(payload, "input", None), getattr(payload, "output", None)
    cut = {name for name in ("input", "output") if getattr(payload, f"{name}_size", 0)}
    missing = set() if text_in is not None else {"input"}
    if text_out is None and row.status in NO_OUTPUT_OF:
        missing.add("output")
    error = _error(row.error_type, getattr(payload, "error_message", None))
    latency = None if row.duration is None else row.duration / 1e9
    attributes = mapping(getattr(payload, "attributes", None))
    context = optional_list(getattr(payload, "context", None))
    itself = SpanView(
        name=row.name,
        kind=row.kind,
        status=row.status,
        input=decoded(text_in),
        output=decoded(text_out),
        attributes=attributes,
        context=context,
        error=error,
        latency=latency,
        model=row.model,
        span_id=row.span_id,
        parent_id=row.parent_id,
        cut=frozenset(cut),
    )
    return RecordView(
        input=decoded(text_in),
        output=decoded(text_out),
        context=context,
        expected=decoded(getattr(payload, "expected", None)),
        spans=(itself,),
        name=row.name,
        latency=latency,
        status=row.status,
        error=error,
        trace_id=row.trace_id,
        span_id=row.span_id,
        cut=cut,
        missing=missing,
        attributes=attributes,
        metadata=mapping(getattr(payload, "metadata", None)),
    )


def view_of_session(keeper: Keeper, session_id: str) -> RecordView:
    """A session as what is judged: its turns in order, at most the newest :data:`TURNS`.

    ``cut`` names ``turns`` (and ``item``, which holds them) when the session is longer than that or a turn's text was
    truncated at the capture limit: a metric is then skipped with that reason unless it has ``accept_cut``.

    Raises
    ------
    StoreError
        The store cannot be read, or has no record of the session.
    """
    found = keeper.store().turns_of(session_id, limit=TURNS, max_bytes=TURNS_BYTES)
    if found.first is None:
        raise StoreError(f"session {session_id!r} could not be read back: the store has no record of it")
    first, last = found.first, found.newest[-1]
    cut, missing = set(), set()
    if first.input_size:
        cut.add("input")
    if last.output_size:
        cut.add("output")
    if len(found.newest) < found.total or any(turn.input_size or turn.output_size for turn in found.newest):
        cut |= {"turns", "item"}
    if first.input is None:
        missing.add("input")
    if _no_output(last):
        missing.add("output")
    if any(turn.input is None or _no_output(turn) for turn in found.newest):
        missing |= {"turns", "item"}
    ends = [turn.started_at + (turn.duration or 0) for turn in found.newest]
    return SessionView(
        input=decoded(first.input),
        output=decoded(last.output),
        item={"turns": [_turn(turn) for turn in found.newest], "session_id": session_id},
        name="session",
        session_id=session_id,
        user_id=last.user_id,
        latency=max(0, max(ends) - first.started_at) / 1e9,
        status=last.status,
        error=_error(last.error_type, last.error_message),
        cut=cut,
        missing=missing,
    )


def _turn(turn: Turn) -> dict[str, Any]:
    return {
        "input": decoded(turn.input),
        "output": decoded(turn.output),
        "at": turn.started_at / 1e9,
        "status": turn.status,
        "error": _error(turn.error_type, turn.error_message),
    }


def _no_output(turn: Turn) -> bool:
    return turn.output is None and turn.status in NO_OUTPUT_OF


def _error(type: str | None, message: str | None) -> str | None:
    return f"{type}: {message}" if type and message else type
