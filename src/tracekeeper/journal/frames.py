"""What a journal holds: the kinds of frame, and their encoding.

A frame's payload is one msgpack array whose first element is the kind's tag (``msgspec`` tagged union, array-like):
small, typed, and open at its end, since a reader of an older version ignores what it does not know and a newer one
fills what is missing with defaults. Fields may be *appended*, never moved, renamed in meaning or removed.

Captured values (``input``, ``output``, ``attributes`` …) are JSON text that was encoded when the call happened, so
nobody encodes them again on the way to the store. Ids are raw bytes here (16 for a trace, 8 for a span), hex text in
the store and everywhere people look. Times are integer nanoseconds since the Unix epoch.

Frames hold plain values only, so no cycle can lead through one and the garbage collector need not look at them
(``gc=False``): thousands are made for every batch, while user code runs.
"""

from __future__ import annotations

from typing import Any

import msgspec

from tracekeeper.types import Usage


class ErrorInfo(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """An exception as it is kept."""

    type: str
    """Qualified name of its class, e.g. ``ValueError`` or ``httpx.ReadTimeout``."""
    message: str
    traceback: str = ""


class ScoreBirth(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What a record's metric decided when the call ended: a pending score, or one skipped with a reason."""

    name: str
    metric_version: str
    mode: str
    """``background``, ``inline`` or ``deferred``."""
    status: str = "pending"
    """``pending`` or ``skipped``."""
    reason: str | None = None
    source: str = "code"
    local: bool = True
    """Whether only the process that made it can compute it (a lambda, a closure, anything of ``__main__``)."""
    priority: int = 0
    """Of scores that may be claimed the one with the smaller number goes first."""


class Definition(msgspec.Struct, frozen=True, array_like=True, gc=False, tag="D"):
    """An app or a metric, said once per journal before the first frame that names it."""

    kind: str
    """``app`` or ``metric``."""
    name: str
    version: str
    data: bytes = b"{}"
    """JSON: of an app its metrics' names and versions; of a metric import path, parameters, direction, range, timeout,
    retries, mode, requirements."""


class SpanStart(msgspec.Struct, array_like=True, gc=False, tag="S"):
    """A call began. Written before user code runs, so that a killed process's call in flight is known."""

    trace_id: bytes
    span_id: bytes
    parent_id: bytes | None
    """Span id of the parent, ours or a third party's, local or remote."""
    record_id: bytes
    """Span id of the record this span belongs to; equal to ``span_id`` when the span is itself a record."""
    name: str
    kind: str
    started: int
    app: str | None = None
    """Name of the app, on its record span only."""
    app_version: str | None = None
    project: str = "default"
    session_id: str | None = None
    user_id: str | None = None
    environment: str | None = None
    release: str | None = None
    tags: tuple[str, ...] = ()
    input: bytes | None = None
    """JSON text of the arguments; ``None`` when not captured."""
    input_size: int = 0
    """Length in bytes that the whole input would have; 0 when nothing was cut."""
    attributes: bytes | None = None
    """JSON object known at the start."""


class SpanCheckpoint(msgspec.Struct, array_like=True, gc=False, tag="C"):
    """A long stream's state so far, so that a killed process keeps it."""

    trace_id: bytes
    span_id: bytes
    at: int
    output: bytes | None = None
    """JSON text of everything received so far (not only since the last checkpoint)."""
    output_size: int = 0
    chunks: int | None = None


class SpanEnd(msgspec.Struct, array_like=True, gc=False, tag="E"):
    """A call ended. Carries only what the start did not say, or what changed since."""

    trace_id: bytes
    span_id: bytes
    record_id: bytes
    ended: int
    status: str
    output: bytes | None = None
    output_size: int = 0
    error: ErrorInfo | None = None
    usage: Usage | None = None
    model: str | None = None
    provider: str | None = None
    attributes: bytes | None = None
    """JSON object; replaces the start's attributes whole when not ``None``."""
    events: bytes | None = None
    """JSON list of ``{"name", "at", "attributes"}``."""
    links: bytes | None = None
    """JSON list of ``{"trace_id", "span_id", "attributes"}``."""
    context: bytes | None = None
    """JSON list of retrieved documents (text, or objects with ``content``), on retriever spans and logged records."""
    expected: bytes | None = None
    """JSON text of the expected output, on records of experiments and imports."""
    chunks: int | None = None
    """Number of chunks of a stream."""
    first_chunk: int | None = None
    """Time of the first chunk."""
    name: str | None = None
    kind: str | None = None
    tags: tuple[str, ...] | None = None
    session_id: str | None = None
    user_id: str | None = None
    input: bytes | None = None
    input_size: int = 0
    scores: tuple[ScoreBirth, ...] = ()
    """On a record: what its metrics decided."""
    metadata: bytes | None = None
    """JSON object of the user's own record metadata."""
    app: str | None = None
    app_version: str | None = None


class ScoreFrame(msgspec.Struct, array_like=True, gc=False, tag="R"):
    """A score in any status. Key: (target, name, metric version, source, author)."""

    target: str
    """``record``, ``span`` or ``session``."""
    name: str
    status: str
    trace_id: bytes = b""
    span_id: bytes = b""
    session_id: str = ""
    metric_version: str = ""
    source: str = "code"
    author: str = ""
    value: float | None = None
    """Number; 1.0 or 0.0 of a bool; ``None`` of a label."""
    label: str | None = None
    value_type: str = "number"
    """``number``, ``bool`` or ``label``: how to read ``value`` and ``label`` back."""
    reason: str | None = None
    error: str | None = None
    traceback: str | None = None
    attempt: int = 0
    """0 on a birth, else the attempt that this outcome belongs to. A higher attempt replaces a lower one; among equal
    ones a final status replaces one that is not; a final status is never replaced by one of the same attempt."""
    started: int | None = None
    settled: int | None = None
    cost: float | None = None
    metadata: bytes | None = None
    mode: str = "background"
    local: bool = True
    evaluation: bytes = b""
    """Trace id of the evaluation's own trace; empty when it left none."""


class ItemFrame(msgspec.Struct, array_like=True, gc=False, tag="I"):
    """An item of an experiment changed its status. (Written by ``evaluate``.)"""

    experiment: str
    item: str
    repeat: int
    status: str
    at: int
    trace_id: bytes = b""
    span_id: bytes = b""
    reason: str | None = None
    data: bytes | None = None


Frame = Definition | SpanStart | SpanCheckpoint | SpanEnd | ScoreFrame | ItemFrame

_encoder = msgspec.msgpack.Encoder()
_decoder: msgspec.msgpack.Decoder[Frame] = msgspec.msgpack.Decoder(Frame)

encode = _encoder.encode
"""``encode(frame) -> bytes``. Total for frames built from valid JSON bytes, ints and str without lone surrogates."""


decode = _decoder.decode
"""``decode(payload) -> Frame``; raises ``msgspec.MsgspecError`` when it is not one of ours (of a kind that only a newer
version knows, or damaged in a way that its checksum did not show)."""


def with_fields(frame: Any, **changes: Any) -> Any:
    """A copy of a frame with some fields changed."""
    return msgspec.structs.replace(frame, **changes)
