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


def text_of(data: bytes | None) -> str | None:
    """JSON text of a captured value. Our encoder writes UTF-8; what is not is shown rather than lost."""
    return None if data is None else data.decode("utf-8", "replace")


def integer(value: int | None) -> int | None:
    """An integer that fits a column; ``None`` when a provider reported nonsense."""
    return value if value is not None and -_LARGEST <= value <= _LARGEST else None


def finite(value: float | None) -> float | None:
    """A number; ``None`` for NaN and infinity, which no column shall hold."""
    return value if value is not None and math.isfinite(value) else None


def span_row(row: int, write: SpanWrite, journal_id: int) -> tuple[Any, ...]:
    start, end, status, checkpoint = write
    if end is None:
        chunks = integer(checkpoint.chunks) if checkpoint is not None else None
        nothing = (None,) * 8
        ended: tuple[Any, ...] = (str(status or SpanStatus.RUNNING), start.started, *nothing, chunks, None)
    else:
        of_end = ending(end, max(0, end.ended - start.started))
        ended = (of_end[0], start.started, *of_end[1:], integer(end.chunks), first_chunk(end, start.started))
    return (
        row,
        start.trace_id.hex(),
        start.span_id.hex(),
        start.parent_id.hex() if start.parent_id is not None else None,
        start.record_id.hex(),
        (end.name if end is not None else None) or start.name,
        (end.kind if end is not None else None) or start.kind,
        *ended,
        journal_id,
    )


def ending(end: SpanEnd, duration: int) -> tuple[Any, ...]:
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


def payload_row(
    row: int, start: SpanStart, checkpoint: SpanCheckpoint | None, end: SpanEnd | None
) -> tuple[Any, ...] | None:
    """The wide row, or ``None`` when there is nothing to put in it."""
    given, output, output_size = start.input, None, 0
    given_size = start.input_size
    if checkpoint is not None and checkpoint.output is not None:
        output, output_size = checkpoint.output, checkpoint.output_size
    if end is None:
        if given is None and output is None and start.attributes is None:
            return None
        nothing = (None,) * 7
        return (row, text_of(given), given_size, text_of(output), output_size, text_of(start.attributes), *nothing)
    if end.input is not None:
        given, given_size = end.input, end.input_size
    if end.output is not None:
        output, output_size = end.output, end.output_size
    attributes = start.attributes if end.attributes is None else end.attributes
    rest = (attributes, end.events, end.links, end.context, end.expected, end.metadata)
    error = end.error
    if given is None and output is None and error is None and not any(each is not None for each in rest):
        return None
    return (
        row,
        text_of(given),
        given_size,
        text_of(output),
        output_size,
        *(text_of(each) for each in rest),
        error.message if error is not None else None,
        error.traceback if error is not None else None,
    )


_NO_START = SpanStart(b"", b"", None, b"", "", "", 0)


def end_payload_row(row: int, end: SpanEnd) -> tuple[Any, ...] | None:
    return payload_row(row, _NO_START, None, end)


def record_row(row: int, write: SpanWrite, app_id: int | None) -> tuple[tuple[Any, ...], Sequence[str]]:
    start, end, status, _ = write
    names, session, user, name = start.tags, start.session_id, start.user_id, start.name
    ending: tuple[Any, ...] = (str(status or SpanStatus.RUNNING), start.started, None, None)
    if end is not None:
        error_type = end.error.type if end.error is not None else None
        ending = (str(end.status), start.started, max(0, end.ended - start.started), error_type)
        names = start.tags if end.tags is None else end.tags
        session, user, name = end.session_id or session, end.user_id or user, end.name or name
    made = (
        row,
        start.trace_id.hex(),
        start.span_id.hex(),
        app_id,
        name,
        start.project,
        *ending,
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
        parent_id=None if end.record_id == end.span_id else end.record_id,
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
