"""A record whose call is made in another process: the spans made there come home and are kept here.

The process that the record belongs to, *home*, opens and ends its span and owns journal and store. In the process that
makes the call, a :class:`Relay` is the keeper: it writes nothing to disk and hands every frame on. There a stand-in for
the record's span is current, so that what is traced belongs to the record as it would at home; what is said of the
stand-in (``tk.current_span().set(…)``) is said of the record's own span when the call has ended. At home
:class:`Arriving` journals each frame when it comes, and gives the record what its metrics read.

Invariants
----------
- Home alone ends the record's span: an end frame of it that comes from elsewhere is left aside.
- Every span that came and did not end is ended ``interrupted`` when its process is gone or given up.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from tracekeeper.configuration import settings
from tracekeeper.configuration.settings import Settings
from tracekeeper.journal.frames import Definition, Frame, SpanEnd, SpanStart, decode, encode
from tracekeeper.tracing import runtime, trouble
from tracekeeper.tracing.context import VAR, containing
from tracekeeper.tracing.keeper import Keeper
from tracekeeper.tracing.repair import repaired
from tracekeeper.tracing.spans import Span, current_span
from tracekeeper.tracing.state import SPANS_KEPT, RecordState
from tracekeeper.types import Receipt, SpanStatus

if TYPE_CHECKING:
    from tracekeeper.journal.writer import Journal


class Above(NamedTuple):
    """What another process has to know of the record that its call belongs to."""

    trace_id: bytes
    span_id: bytes
    record_id: bytes
    name: str
    kind: str
    started: int


class Said(NamedTuple):
    """What was said of a stand-in: plain data, encoded where it was said."""

    attributes: dict[str, Any]
    events: list[Any]
    links: list[Any]
    changes: dict[str, Any]
    metadata: dict[str, Any]
    output: tuple[bytes, int] | None
    declared: str | None


class Relay(Keeper):
    """The keeper of a process whose frames another one journals. ``send(payload)`` is lock-free and never raises."""

    def __init__(self, settings: Settings, directory: Path, send: Callable[[bytes], None]) -> None:
        super().__init__(settings, directory)
        self._send = send

    def write(self, frame: Frame) -> bool:
        """Hand it on. Whether it could be encoded."""
        if not self.enabled:
            return False
        try:
            payload = encode(frame)
        except Exception as error:  # noqa: BLE001  as at home: it must not reach the traced call
            mended = repaired(frame, error)
            if mended is None:
                trouble.note("encoding a frame for another process", error)
                return False
            payload = mended
        self._send(payload)
        return True

    def define(self, definition: Definition) -> None:
        """Hand on what an app or a metric is, once."""
        key = (definition.kind, definition.name, definition.version)
        if key not in self._defined and self.write(definition):
            self._defined.add(key)

    def begin(self, timeout: float = 5.0) -> Journal | None:
        """There is no journal here."""
        return None

    def ship(self, timeout: float | None = None) -> str | None:
        """Nothing is stored from here."""
        return None

    def receipt(self, timeout: float | None = None) -> Receipt:
        """The account is home's."""
        return Receipt()

    @property
    def used(self) -> bool:
        """Nothing is left here at exit."""
        return False


# -- in the process that makes the call --------------------------------------------------------------------------------


def relay_to(send: Callable[[bytes], None]) -> Relay:
    """Have all that is traced in this process handed on, whatever context it is traced in."""
    now = settings()
    made = Relay(now, now.directory or Path.cwd(), send)
    runtime.use(made)
    return made


def stand_in(above: Above, keeper: Keeper) -> Span:
    """What takes the place of the record's span here; make it current with ``enter``, end it with ``said_of``."""
    now = settings()
    span = Span()
    start = SpanStart(
        above.trace_id, above.span_id, None, above.record_id, above.name, above.kind, above.started, project=now.project
    )
    span.settings, span.mask, span.parent, span.sampled, span.keeper = now, now.mask, None, True, keeper
    span.start, span.written = start, True
    span.record_state = RecordState(above.trace_id, above.record_id, keeper, start=start)
    runtime.open_spans[above.span_id] = span
    return span


def enter(span: Span) -> None:
    """Make it current here for good: the call has a context of its own."""
    VAR.set(containing(span, VAR.get()))


def said_of(span: Span) -> Said | None:
    """The call has ended: what was said of the stand-in meanwhile. It takes nothing more."""
    runtime.open_spans.pop(span.start.span_id, None)
    late, declared = span.late, span.declared
    if late is None and span.output is None and declared is None:
        return None
    return Said(
        attributes={} if late is None else late.attributes.copy(),
        events=[] if late is None else late.events.copy(),
        links=[] if late is None else late.links.copy(),
        changes={} if late is None else late.changes.copy(),
        metadata={} if late is None else late.metadata.copy(),
        output=span.output,
        declared=None if declared is None else declared.value,
    )


# -- at home -----------------------------------------------------------------------------------------------------------


def above() -> tuple[Above, Span] | None:
    """The span that is current here, as another process needs it, and itself; ``None`` without one."""
    span = current_span()
    if not isinstance(span, Span):
        return None
    start = span.start
    return Above(start.trace_id, start.span_id, start.record_id, start.name, start.kind, start.started), span


def say(span: Span, said: Said) -> None:
    """Say of the record's span what was said of its stand-in."""
    if not span.is_open():
        return
    late = span.later()
    late.attributes.update(said.attributes)
    late.unsaid = late.unsaid or bool(said.attributes)
    late.events.extend(said.events)
    late.links.extend(said.links)
    late.changes.update(said.changes)
    late.metadata.update(said.metadata)
    if said.output is not None:
        span.output = said.output
    if said.declared is not None:
        span.declared = SpanStatus(said.declared)


class Arriving:
    """Frames of one other process, as they come. Used by one thread; ``expect`` and ``forget`` by any."""

    def __init__(self, keeper: Keeper) -> None:
        self._keeper = keeper
        self._records: dict[bytes, RecordState] = {}
        self._open: dict[bytes, SpanStart] = {}

    def expect(self, state: RecordState) -> None:
        """A call of this record is being made there."""
        self._records[state.span_id] = state

    def forget(self, state: RecordState) -> None:
        """It has ended: what still comes is journaled, no more."""
        self._records.pop(state.span_id, None)

    def take(self, payload: bytes) -> None:
        """Journal a frame. Never raises an ``Exception``."""
        try:
            frame = decode(payload)
        except msgspec.MsgspecError as error:
            trouble.note("reading a frame of another process", error)
            return
        match frame:
            case Definition():
                self._keeper.define(frame)
            case SpanStart():
                self._open[frame.span_id] = frame
                self._keeper.write(frame)
            case SpanEnd():
                self._ended(frame)
            case _:
                self._keeper.write(frame)

    def _ended(self, end: SpanEnd) -> None:
        start = self._open.pop(end.span_id, None)
        if start is None and end.span_id == end.record_id:
            return  # of a stand-in
        self._keeper.write(end)
        state = self._records.get(end.record_id)
        if state is None or start is None:
            return
        if state.spans is not None and len(state.spans) < SPANS_KEPT:
            state.spans.append((start, end))
        if end.usage is not None:
            state.has_usage = True
        if end.context is not None:
            state.documents.append(end.context)

    def gone(self) -> None:
        """Nothing more comes: what is open ended with its process."""
        now = time.time_ns()
        while self._open:
            _, start = self._open.popitem()
            ended = SpanEnd(start.trace_id, start.span_id, start.record_id, now, SpanStatus.INTERRUPTED.value)
            self._keeper.write(ended)
