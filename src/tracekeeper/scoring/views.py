"""What a metric sees of a record, decoded from what was captured.

The data are the same whether they come from the frames in memory or from the store: after masks and limits, plain JSON
values, each time decoded anew, so that no metric can change what another one sees. Inline metrics get the call's own
objects instead.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import orjson

from tracekeeper.judging import RecordView, SpanView
from tracekeeper.tracing import capture

if TYPE_CHECKING:
    from tracekeeper.journal.frames import SpanEnd, SpanStart
    from tracekeeper.scoring.stored import StoredRecord
    from tracekeeper.tracing.keeper import Keeper
    from tracekeeper.tracing.state import RecordState

NO_OUTPUT_OF = frozenset({"ok", "abandoned", "truncated"})
"""After these a call has an output; that it is absent means that it was not captured."""


def size_of(state: RecordState) -> int:
    """Bytes of captured text that a record holds on to."""
    total = sum(map(len, state.documents))
    for start, end in ((state.start, state.end), *(state.spans or ())):
        if start is not None:
            total += len(start.input or b"") + len(start.attributes or b"")
        if end is not None:
            total += (
                len(end.input or b"") + len(end.output or b"") + len(end.attributes or b"") + len(end.context or b"")
            )
    return total


def from_state(state: RecordState, *, live: bool = False) -> RecordView:
    """A record of this process, from its frames; with ``live`` its input and output are the call's own objects."""
    start, end = state.start, state.end
    if start is None or end is None:
        raise ValueError("the record has no captured frames")
    text = end.input if end.input is not None else start.input
    cut, missing = set(), set()
    if (end.input_size if end.input is not None else start.input_size) > 0:
        cut.add("input")
    if end.output_size > 0:
        cut.add("output")
    values: dict[str, Any] = {"input": decoded(text), "output": decoded(end.output)}
    if text is None:
        missing.add("input")
    if end.output is None and end.status in NO_OUTPUT_OF:
        missing.add("output")
    if live:
        for name, value in (("input", state.live_input), ("output", state.live_output)):
            if value is not None:
                values[name] = value
                cut.discard(name)
                missing.discard(name)
    changed = end.attributes if end.attributes is not None else start.attributes
    metadata = mapping(end.metadata)
    return RecordView(
        **values,
        item=item_of(metadata),
        context=_documents(state.documents or ([end.context] if end.context is not None else [])),
        expected=decoded(end.expected),
        spans=partial(_span_views, (start, end), state.spans or ()),
        name=end.name or start.name,
        app=end.app or start.app,
        version=end.app_version or start.app_version,
        session_id=end.session_id or start.session_id,
        user_id=end.user_id or start.user_id,
        tags=end.tags if end.tags is not None else start.tags,
        latency=max(0, end.ended - start.started) / 1e9,
        status=end.status,
        error=None if end.error is None else f"{end.error.type}: {end.error.message}",
        trace_id=state.trace_id.hex(),
        span_id=state.span_id.hex(),
        cut=cut,
        missing=missing,
        attributes=mapping(changed),
        metadata=metadata,
    )


def from_row(row: StoredRecord, keeper: Keeper) -> RecordView:
    """A record as the store has it (with its payload)."""
    cut = {name for name, size in (("input", row.input_size), ("output", row.output_size)) if size > 0}
    missing = set()
    if row.input is None:
        missing.add("input")
    if row.output is None and row.status in NO_OUTPUT_OF:
        missing.add("output")
    metadata = mapping(row.metadata)
    return RecordView(
        input=decoded(row.input),
        item=item_of(metadata),
        output=decoded(row.output),
        context=_retrieved(keeper, row),
        expected=decoded(row.expected),
        spans=partial(_stored_span_views, keeper, row.trace_id, row.span_id),
        name=row.name,
        app=row.app,
        version=row.version,
        session_id=row.session_id,
        user_id=row.user_id,
        tags=row.tags,
        latency=None if row.duration is None else row.duration / 1e9,
        status=row.status,
        error=row.error,
        trace_id=row.trace_id,
        span_id=row.span_id,
        cut=cut,
        missing=missing,
        metadata=metadata,
    )


ITEM = "tracekeeper.item"
"""Under this key of a record's metadata ``evaluate`` keeps which item of which experiment it is, and its fields."""


def item_of(metadata: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The fields of the dataset's item, of a record that is one."""
    item = metadata.get(ITEM)
    fields = item.get("fields") if isinstance(item, dict) else None
    return fields if isinstance(fields, dict) else None


def _span_views(own: tuple[SpanStart, SpanEnd], below: Iterable[tuple[SpanStart, SpanEnd]]) -> list[SpanView]:
    ordered = sorted((own, *below), key=lambda pair: pair[0].started)
    return [_span_view(start, end) for start, end in ordered]


def _span_view(start: SpanStart, end: SpanEnd) -> SpanView:
    text = end.input if end.input is not None else start.input
    cut = set()
    if (end.input_size if end.input is not None else start.input_size) > 0:
        cut.add("input")
    if end.output_size > 0:
        cut.add("output")
    return SpanView(
        name=end.name or start.name,
        kind=end.kind or start.kind,
        status=end.status,
        input=decoded(text),
        output=decoded(end.output),
        attributes=mapping(end.attributes if end.attributes is not None else start.attributes),
        context=None if end.context is None else _list(end.context),
        error=None if end.error is None else f"{end.error.type}: {end.error.message}",
        latency=max(0, end.ended - start.started) / 1e9,
        model=end.model,
        span_id=start.span_id.hex(),
        parent_id=None if start.parent_id is None else start.parent_id.hex(),
        cut=frozenset(cut),
    )


def _stored_span_views(keeper: Keeper, trace_id: str, record_span_id: str) -> list[SpanView]:
    store = keeper.store()
    rows = store.spans_of(trace_id, record_span_id)
    payloads = store.payloads([row.id for row in rows])
    views = []
    for row in sorted(rows, key=lambda row: row.started_at):
        payload = payloads.get(row.id)
        message = getattr(payload, "error_message", None)
        cut = {name for name in ("input", "output") if getattr(payload, f"{name}_size", 0)}
        views.append(
            SpanView(
                name=row.name,
                kind=row.kind,
                status=row.status,
                input=decoded(getattr(payload, "input", None)),
                output=decoded(getattr(payload, "output", None)),
                attributes=mapping(getattr(payload, "attributes", None)),
                context=optional_list(getattr(payload, "context", None)),
                error=f"{row.error_type}: {message}" if row.error_type and message else row.error_type,
                latency=None if row.duration is None else row.duration / 1e9,
                model=row.model,
                span_id=row.span_id,
                parent_id=row.parent_id,
                cut=frozenset(cut),
            )
        )
    return views


def _retrieved(keeper: Keeper, row: StoredRecord) -> list[Any] | None:
    """What the record's spans retrieved, in the order they ended; a logged record has it itself."""
    if row.context is not None:
        return _list(row.context)
    store = keeper.store()
    below = [span for span in store.spans_of(row.trace_id, row.span_id) if span.span_id != row.span_id]
    if not below:
        return None
    payloads = store.payloads([span.id for span in below])
    ended = sorted(below, key=lambda span: span.started_at + (span.duration or 0))
    parts = [payload.context for span in ended if (payload := payloads.get(span.id)) is not None]
    return _documents([part.encode() for part in parts if part is not None])


def _documents(parts: Sequence[bytes]) -> list[Any] | None:
    """Retriever outputs in the order they ended; ``None`` when nothing was retrieved."""
    if not parts:
        return None
    return [document for part in parts for document in _list(part)]


def _list(text: bytes | str) -> list[Any]:
    value = capture.decode(text)
    return value if isinstance(value, list) else [value]


def optional_list(text: bytes | str | None) -> list[Any] | None:
    return None if text is None else _list(text)


def mapping(text: bytes | str | None) -> dict[str, Any]:
    value = None if text is None else orjson.loads(text)
    return value if isinstance(value, dict) else {}


def decoded(text: bytes | str | None) -> Any:
    return None if text is None else capture.decode(text)
