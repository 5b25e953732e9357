"""What is known of a record while its call runs, and what an app hooks into it.

A ``RecordState`` is shared by all spans of its record. They append to it from any thread and from finalisers, so it
holds nothing but plain slots and lists whose ``append`` is atomic.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

import msgspec

from tracekeeper.journal.frames import Definition, ScoreBirth, SpanEnd, SpanStart
from tracekeeper.types import Usage

if TYPE_CHECKING:
    from tracekeeper.tracing.runtime import Keeper
    from tracekeeper.tracing.spans import Span
else:  # msgspec resolves no annotation here, but type checkers do
    Keeper = Span = Any

SPANS_KEPT = 10_000
"""Spans of one record that are kept at hand for metrics that read spans."""


class RecordState(msgspec.Struct, eq=False, weakref=True):
    """One record of this process: a call of an app, or a traced call without a local parent.

    Parameters
    ----------
    parent:
        The enclosing record, when an app was called inside an app.
    span:
        The record's own span; dropped when it ends.
    documents:
        One JSON list for each retriever span (or span with a ``context``) of the record, in the order they ended.
    spans:
        Start and end of the spans below it that ended so far; ``None`` unless the app's metrics read spans.
    start, end:
        The record's own frames; ``end`` is there when the app decides.
    live_input, live_output:
        The very objects, only when the app's metrics want them (inline metrics and guards).
    handle:
        The scoring room's own handle.
    sampled:
        Whether it is written.
    inline:
        Whether whoever ended the call can run inline metrics before it returns. False at an end in a finaliser, at
        exit, or by hand: set before the app decides.
    evaluation:
        Not a record but an evaluation: its ``span_id`` is empty, and nothing below it is a record.
    """

    trace_id: bytes
    span_id: bytes
    keeper: Keeper | None = None
    app: AppLink | None = None
    parent: RecordState | None = None
    span: Span | None = None
    start: SpanStart | None = None
    sampled: bool = True
    end: SpanEnd | None = None
    documents: list[bytes] = msgspec.field(default_factory=list)
    spans: list[tuple[SpanStart, SpanEnd]] | None = None
    has_usage: bool = False
    live_input: Any = None
    live_output: Any = None
    handle: Any = None
    inline: bool = False
    evaluation: Unbegun | None = None


class Unbegun:
    """What stands in the place of a span that begins with the first span below it (see ``evaluation``)."""

    __slots__ = ()

    def begin(self) -> Span | None:
        """The span; ``None`` where tracing is off."""
        raise NotImplementedError

    def used(self, usage: Usage) -> None:
        """A span below it reported this."""
        raise NotImplementedError


class AppLink(Protocol):
    """What tracing knows of an app. Every method may run in a finaliser: lock-free, and it should not raise."""

    @property
    def name(self) -> str: ...
    @property
    def version(self) -> str: ...
    @property
    def needs_spans(self) -> bool: ...
    @property
    def needs_live(self) -> bool: ...
    @property
    def has_inline(self) -> bool: ...

    def definitions(self) -> tuple[Definition, ...]:
        """The app and its metrics, journaled before the first record. The same tuple as long as nothing changes."""
        ...

    def decide(self, state: RecordState) -> tuple[ScoreBirth, ...]:
        """At the end, before the end frame: what each metric will do."""
        ...

    def ended(self, state: RecordState) -> None:
        """After the end frame was written."""
        ...

    def settle_inline(self, state: RecordState) -> None:
        """Run inline metrics before the call returns."""
        ...

    async def asettle_inline(self, state: RecordState) -> None:
        """The same for an async call."""
        ...
