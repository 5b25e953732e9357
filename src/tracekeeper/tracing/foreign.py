"""A third party's span as a span of ours: where it belongs, and what its attributes mean when it ends.

It has the ids that the third party gave it, so ours nest below it and it below ours. Its attributes are kept as they
are, and read once more in our words by :mod:`~tracekeeper.conventions`: when it begins, so that a killed process's call
is known with its question, and when it ends.

Invariants
----------
- What holds for a span holds here: it ends once, lock-free, whoever ends it.
- What settings keep from being written stays away in every form: masks, limits and ``capture_input=False`` apply to the
  raw attributes that hold (a part of) an input or an output as they do to the input and the output.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from opentelemetry.trace import SpanContext
from opentelemetry.trace import SpanKind as OtelKind

from tracekeeper.conventions.contents import content_of
from tracekeeper.conventions.reading import Event, Normal, beginning, normalised
from tracekeeper.conventions.table import DETAILS_EVENT, DOCUMENT_EVENTS, MESSAGE_EVENTS
from tracekeeper.conventions.values import parsed
from tracekeeper.journal.frames import ErrorInfo, SpanStart
from tracekeeper.tracing import capture, documents, opening, runtime, trouble
from tracekeeper.tracing.context import KEY
from tracekeeper.tracing.spans import Span
from tracekeeper.tracing.state import RecordState
from tracekeeper.types import SpanKind, SpanStatus

if TYPE_CHECKING:
    from tracekeeper.configuration import Settings

SCOPE = "otel.scope.name"
KIND = "otel.span.kind"
"""Attributes that say what OpenTelemetry keeps beside the attributes."""
DROPPED = "tracekeeper.dropped_attributes"
_CONTENT_EVENTS = frozenset({*MESSAGE_EVENTS, *DOCUMENT_EVENTS, DETAILS_EVENT})
_ERROR = SpanStatus.ERROR
_STATUS = {None: "unset", SpanStatus.OK: "ok", SpanStatus.ERROR: "error"}


class ForeignSpan(Span):
    """A span that a third party began, through its own provider (see ``bridge``) or through ours (see ``light``)."""

    __slots__ = ("cancelled", "otel_kind", "scope", "taken")

    def __init__(self) -> None:
        super().__init__()
        self.scope = ""
        """Name of the instrumentation."""
        self.otel_kind = OtelKind.INTERNAL
        self.cancelled = False
        """An exception that means a cancellation passed through its ``with`` block."""
        self.taken: Any = None
        """Where the third party's own span is looked at when it does not end by itself; see ``bridge``."""

    def close(self, status: SpanStatus, *, ended: int | None = None, quiet: bool = False) -> bool:
        """See ``Span``: end it, after its attributes were read."""
        if self.is_open() and (self.sampled or (self.settings.keep_errors and (status is _ERROR or self.keep))):
            try:
                status = self._understood(status)
            except Exception as error:  # noqa: BLE001
                trouble.note("reading a third party's span", error, quiet=quiet)
        return super().close(status, ended=ended, quiet=quiet)

    def sweep(self, status: str) -> None:
        """See ``Span``: the program ends while it is open; what it has so far is kept."""
        if self.taken is not None:
            self.taken.look(self)
        self.close(SpanStatus(status), quiet=True)

    def begin_with(self, attributes: Mapping[str, Any]) -> None:
        """Attributes that it begins with: they go into the first frame, with the question if it is among them."""
        start, late = self.start, self.later()
        held = {capture.text(str(key)): self.hold(value) for key, value in attributes.items()}
        late.attributes = held
        if not self.sampled:
            return  # if it is kept after all, because of an error, it is read at its end
        if not held:
            self._mark_start()
            return
        found = beginning(held)
        if found.kind is not None:
            start.kind = found.kind.value
        takes = self.settings.capture_input and found.input is not None and self.takes_payload()
        if takes:
            start.input, start.input_size = self.encode(found.input)
        if self.is_record:
            start.session_id = found.session_id or start.session_id
            start.user_id = found.user_id or start.user_id
            start.environment = found.environment or start.environment
            start.release = found.release or start.release
            start.tags = tuple(dict.fromkeys((*start.tags, *found.tags)))
        self._mark_start({key: made for key, value in held.items() if (made := self._raw(key, value)) is not None})

    def _mark_start(self, attributes: dict[str, Any] | None = None) -> None:
        kept = self._marks(attributes or {})
        if kept:
            self.start.attributes, _ = self._json(kept)

    def _understood(self, status: SpanStatus) -> SpanStatus:
        """Read attributes and events; the status it ends with."""
        late, start = self.later(), self.start
        attributes = late.attributes.copy()
        events = [Event(each["name"], each["attributes"], each["at"]) for each in late.events.copy()]
        told = _STATUS.get(self.declared, "unset")
        found = normalised(attributes, events, name=self.name, scope=self.scope, status=told, started=start.started)
        self._keep(found)
        late.attributes = self._marks(
            {key: made for key, value in attributes.items() if (made := self._raw(key, value)) is not None}
        )
        late.attributes.update(_further(found))
        if late.attributes:
            late.unsaid = True
        late.events = [self._raw_event(each) for each in late.events.copy()]
        if status in (SpanStatus.OK, SpanStatus.ERROR):
            status = SpanStatus.CANCELLED if self.cancelled else found.status or status
        elif status is SpanStatus.INTERRUPTED and found.streamed:
            status = SpanStatus.ABANDONED
        if found.error is not None and status is not SpanStatus.ABANDONED:
            said = self.failure
            if said is None or not said.type:
                trace = next((e.attributes.get("exception.stacktrace") for e in events if e.name == "exception"), None)
                message = found.error[1] or (said.message if said is not None else "")
                self.failure = ErrorInfo(found.error[0], message, str(trace or ""))
        return status

    def _keep(self, found: Normal) -> None:
        """What was found, as fields of the end frame."""
        settings, changes = self.settings, self.later().changes
        kind = found.kind.value if found.kind is not None else self.start.kind
        if kind != self.start.kind:
            changes["kind"] = kind
        if not self.start.name and found.name:
            changes["name"] = found.name
        for field in ("model", "provider", "first_chunk", "chunks"):
            value = getattr(found, field)
            if value is not None:
                changes[field] = value
        if found.usage is not None:
            changes["usage"] = found.usage
        payloads = self.takes_payload() if found.input is not None or found.output is not None else True
        if found.input is not None and settings.capture_input and payloads:
            changes["input"], changes["input_size"] = self.encode(found.input)
        if found.output is not None and settings.capture_output and payloads:
            self.output = self.encode(found.output)
        retrieved = found.documents
        if retrieved is None and kind == SpanKind.RETRIEVER and found.output is not None:
            retrieved = documents.found_in(found.output)
        if retrieved is not None and kind == SpanKind.RETRIEVER:
            if (gathered := documents.collecting.get()) is not None:
                gathered.extend(retrieved)
            if settings.capture_output and payloads:
                changes["context"], _ = self.encode(retrieved)
        said = {"session_id": found.session_id, "user_id": found.user_id, "tags": found.tags or None}
        self.set(**{field: value for field, value in said.items() if value is not None})  # type: ignore[arg-type]
        if found.metadata:
            late = self.later()
            late.metadata = {**found.metadata, **late.metadata}

    def _marks(self, attributes: dict[str, Any]) -> dict[str, Any]:
        """With what OpenTelemetry knows of a span beside its attributes."""
        if self.scope:
            attributes.setdefault(SCOPE, self.scope)
        if self.otel_kind is not OtelKind.INTERNAL:
            attributes.setdefault(KIND, self.otel_kind.name.lower())
        return attributes

    def _raw(self, key: str, value: Any) -> Any:
        """An attribute as it is kept: like a payload where it holds a part of one; ``None``: not at all."""
        side = content_of(key)
        if side is None:
            return value
        settings = self.settings
        wanted = settings.capture_input if side == "input" else settings.capture_output
        journal = self.keeper.journal
        if not wanted or (journal is not None and not journal.accepts_payloads):
            return None
        value = parsed(value)  # names that hide their values are found in structures, not in JSON text
        if self.mask is None:
            return value
        return capture.decode(self.encode(value)[0])

    def _raw_event(self, event: dict[str, Any]) -> dict[str, Any]:
        if event["name"] not in _CONTENT_EVENTS:
            return event
        held = event["attributes"].items()
        return {**event, "attributes": {key: made for key, item in held if (made := self._raw(key, item)) is not None}}


def _further(found: Normal) -> dict[str, Any]:
    """What no column is for, under names of ours."""
    made = {
        "tracekeeper.parameters": found.parameters,
        "tracekeeper.tools": found.tools,
        "tracekeeper.prompt": found.prompt,
        "tracekeeper.finish_reasons": list(found.finish_reasons),
        "tracekeeper.response_id": found.response_id,
    }
    return {key: value for key, value in made.items() if value}


def begin(
    now: Settings,
    name: str,
    around: Mapping[str, Any],
    ids: tuple[bytes, bytes, bytes | None],
    *,
    started: int,
    scope: str = "",
    kind: OtelKind = OtelKind.INTERNAL,
    attributes: Mapping[str, Any] | None = None,
    links: Iterable[Any] = (),
    told: bool | None = None,
) -> ForeignSpan:
    """A third party's span that begins, written and known; its maker ends it.

    Parameters
    ----------
    around:
        The context in which it was begun.
    ids:
        Trace id, span id, and the parent's span id.
    started:
        Nanoseconds since the epoch.
    told:
        Of a parent in another process: whether it is kept there.
    """
    trace_id, span_id, parent_id = ids
    span = ForeignSpan()
    span.settings, span.mask = now, now.mask
    span.takes_output = now.capture_output
    span.scope, span.otel_kind = scope, kind
    parent, current = None, around.get(KEY)
    if parent_id is not None:
        near = parent_id if told is None else None
        parent = opening.span_around(around, current, trace_id, near)
    span.parent = parent
    if parent is not None:
        span.sampled = parent.sampled or opening.recorded()
        span.keeper = parent.keeper
        state = span.record_state = parent.record_state
        span.start = SpanStart(
            trace_id, span_id, parent_id, state.span_id, capture.text(name), "task", started, None, None, now.project
        )
    else:
        if parent_id is not None and isinstance(current, Span):
            told = current.sampled  # a request's, which lies above records
        span.sampled = opening.kept(trace_id, now, told) or opening.recorded()
        span.keeper = runtime.keeper()
        start = span.start = SpanStart(
            *(trace_id, span_id, parent_id, span_id, capture.text(name), "task", started, None, None, now.project),
            *(now.session_id, now.user_id, now.environment, now.release, now.tags),
        )
        span.record_state = RecordState(trace_id, span_id, span.keeper, None, None, span, start, span.sampled)
    if span.sampled or now.keep_errors:
        span.begin_with(attributes or {})
    opening.announce(span)
    for link in links or ():  # an end frame has them
        if isinstance(getattr(link, "context", None), SpanContext):
            span.add_link(link.context, link.attributes)
    return span
