"""Starts, checkpoints and ends as rows: pure functions that make tuples in the order of the tables' columns."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import msgspec

from tracekeeper.journal.frames import SpanCheckpoint, SpanEnd, SpanStart
from tracekeeper.store.rows import SpanWrite
from tracekeeper.types import SpanStatus, Usage

_LARGEST = (1 << 63) - 1
_json = msgspec.json.Encoder()

Row = tuple[Any, ...]


def text_of(data: bytes | None) -> str | None:
    """JSON text of a captured value. Our encoder writes UTF-8; what is not is shown rather than lost."""
    return None if data is None else data.decode("utf-8", "replace")


def integer(value: int | None) -> int | None:
    """An integer that fits a column; ``None`` when a provider reported nonsense."""
    return value if value is not None and -_LARGEST <= value <= _LARGEST else None


def finite(value: float | None) -> float | None:
    """A number; ``None`` for NaN and infinity, which no column shall hold."""
    return value if value is not None and math.isfinite(value) else None


def span_row(row: int, trace_id: str, span_id: str, write: SpanWrite, journal_id: int) -> Row:
    """The narrow row. The ids are the start's, in the store's form."""
    start, end = write.start, write.end
    parent_id = start.parent_id.hex() if start.parent_id is not None else None
    record_id = span_id if start.record_id == start.span_id else start.record_id.hex()
    if end is None:
        chunks = integer(write.checkpoint.chunks) if write.checkpoint is not None else None
        ids = (row, trace_id, span_id, parent_id, record_id, start.name, start.kind)
        return (*ids, str(write.status or SpanStatus.RUNNING), start.started, *(None,) * 8, chunks, None, journal_id)
    started = start.started
    status, *ended = ending(end, max(0, end.ended - started))
    return (
        row,
        trace_id,
        span_id,
        parent_id,
        record_id,
        end.name or start.name,
        end.kind or start.kind,
        status,
        started,
        *ended,
        integer(end.chunks),
        first_chunk(end, started),
        journal_id,
    )


def ending(end: SpanEnd, duration: int) -> Row:
    """Status, duration, model, provider, input_tokens, output_tokens, cost, usage, error_type."""
    error_type = end.error.type if end.error is not None else None
    usage = end.usage
    if usage is None:
        return (str(end.status), duration, end.model, end.provider, None, None, None, None, error_type)
    return (
        str(end.status),
        duration,
        end.model,
        end.provider,
        integer(usage.input_tokens),
        integer(usage.output_tokens),
        finite(usage.cost),
        _usage(usage),
        error_type,
    )


def _usage(usage: Usage) -> str | None:
    """Every reported figure, when there is more than the columns hold."""
    further = (usage.cache_read_tokens, usage.cache_write_tokens, usage.reasoning_tokens)
    if all(figure is None for figure in further) and not usage.estimated:
        return None
    reported = {name: getattr(usage, name) for name in usage.__struct_fields__}
    return _json.encode({name: figure for name, figure in reported.items() if figure is not None}).decode()


def first_chunk(end: SpanEnd, started: int) -> int | None:
    return None if end.first_chunk is None else max(0, end.first_chunk - started)


def payload_row(row: int, start: SpanStart, checkpoint: SpanCheckpoint | None, end: SpanEnd | None) -> Row | None:
    """The wide row, or ``None`` when there is nothing to put in it."""
    given, given_size = start.input, start.input_size
    output, output_size = None, 0
    attributes = start.attributes
    rest, error = _NO_REST, None
    if checkpoint is not None and checkpoint.output is not None:
        output, output_size = checkpoint.output, checkpoint.output_size
    if end is not None:
        if end.input is not None:
            given, given_size = end.input, end.input_size
        if end.output is not None:
            output, output_size = end.output, end.output_size
        if end.attributes is not None:
            attributes = end.attributes
        rest, error = (end.events, end.links, end.context, end.expected, end.metadata), end.error
    if given is None and output is None and attributes is None and error is None and rest == _NO_REST:
        return None
    return (
        row,
        text_of(given),
        given_size,
        text_of(output),
        output_size,
        text_of(attributes),
        *(rest if rest == _NO_REST else map(text_of, rest)),
        *((None, None) if error is None else (error.message, error.traceback)),
    )


_NO_REST: tuple[bytes | None, ...] = (None,) * 5
_NO_START = SpanStart(b"", b"", None, b"", "", "", 0)


def end_payload_row(row: int, end: SpanEnd) -> Row | None:
    return payload_row(row, _NO_START, None, end)


def record_row(
    row: int, trace_id: str, span_id: str, write: SpanWrite, app_id: int | None
) -> tuple[Row, Sequence[str]]:
    """The record's row, and its tags."""
    start, end = write.start, write.end
    names, session, user, name = start.tags, start.session_id, start.user_id, start.name
    if end is None:
        status, duration, error_type = str(write.status or SpanStatus.RUNNING), None, None
    else:
        status, duration = str(end.status), max(0, end.ended - start.started)
        error_type = end.error.type if end.error is not None else None
        names = start.tags if end.tags is None else end.tags
        session, user, name = end.session_id or session, end.user_id or user, end.name or name
    made = (
        row,
        trace_id,
        span_id,
        app_id,
        name,
        start.project,
        status,
        start.started,
        duration,
        error_type,
        session,
        user,
        start.environment,
        start.release,
        tags_text(names),
    )
    return made, names


def tags_text(names: Sequence[str]) -> str:
    return _json.encode(names).decode() if names else "[]"


def tags_of(text: str | None) -> list[str]:
    return msgspec.json.decode(text, type=list[str]) if text else []


def start_of(end: SpanEnd) -> SpanStart:
    """The start that an end implies."""
    return SpanStart(
        trace_id=end.trace_id,
        span_id=end.span_id,
        parent_id=None if end.record_id in (b"", end.span_id) else end.record_id,
        record_id=end.record_id,
        name=end.name or "(unknown)",
        kind=end.kind or "task",
        started=end.ended,
        app=end.app,
        app_version=end.app_version,
        session_id=end.session_id,
        user_id=end.user_id,
        tags=end.tags or (),
    )
