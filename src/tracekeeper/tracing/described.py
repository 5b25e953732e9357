"""What a span is, and what is said of it while it is open.

Values are encoded when they are set, since the program may change them later. May be called from any thread: what is
said goes into dicts and lists by single operations. Nothing here raises into the program; after its end a span takes
nothing more.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Self

from opentelemetry.trace import Span as OtelSpan
from opentelemetry.trace import SpanContext, Status, StatusCode, TraceFlags, TraceState

from tracekeeper.journal.frames import ErrorInfo, SpanStart
from tracekeeper.tracing import capture, failures, trouble, usage
from tracekeeper.tracing.runtime import open_spans
from tracekeeper.types import SpanStatus, Usage
from tracekeeper.types.single import Single

if TYPE_CHECKING:
    from tracekeeper.configuration import Settings
    from tracekeeper.tracing.chunks import Chunks
    from tracekeeper.tracing.masking import Mask
    from tracekeeper.tracing.runtime import Keeper
    from tracekeeper.tracing.spans import Span
    from tracekeeper.tracing.state import AppLink, RecordState

PAYLOAD_DROPPED = "the journal is nearly full: inputs and outputs are left out"
"""Reason under which captured values that were not written are counted."""
_SAMPLED = TraceFlags(TraceFlags.SAMPLED)
_UNSAMPLED = TraceFlags(TraceFlags.DEFAULT)
_EVENTS = 1_000
_ATTRIBUTES = 4_096
_now = time.time_ns
_encode = capture.encoded


class Late:
    """What most spans never have: everything that is set after the beginning, except the output."""

    __slots__ = ("attributes", "changes", "events", "links", "metadata", "otel", "unsaid")

    def __init__(self) -> None:
        self.attributes: dict[str, Any] = {}
        self.unsaid = False
        """Whether attributes were set that the first frame did not have."""
        self.events: list[Any] = []
        self.links: list[Any] = []
        self.changes: dict[str, Any] = {}
        """Fields of the end frame."""
        self.metadata: dict[str, Any] = {}
        self.otel: SpanContext | None = None


class Described(Single, OtelSpan):
    """What a span is and what was said of it. ``Span`` adds how it ends."""

    __slots__ = (
        "app",
        "chunks",
        "declared",
        "entered",
        "failure",
        "inline",
        "keep",
        "keeper",
        "late",
        "mask",
        "output",
        "parent",
        "record_state",
        "sampled",
        "settings",
        "start",
        "takes_output",
        "token",
        "trace_state",
        "written",
    )

    start: SpanStart
    record_state: RecordState
    keeper: Keeper
    settings: Settings
    mask: Mask | None
    sampled: bool
    parent: Span | None
    """The innermost span of ours around it, also when a third party's lies in between."""
    app: AppLink | None
    """On the span of a record: the app whose call it is."""
    takes_output: bool
    inline: bool
    """Whether who ends it can run inline metrics before the call returns."""
    keep: bool
    """A span below it was kept because it raised."""
    token: Any
    entered: Any
    late: Late | None

    def __init__(self) -> None:  # the rest is set by `opening.open_span`
        self.app = None
        self.chunks: Chunks | None = None
        self.declared: SpanStatus | None = None
        self.entered = None
        self.failure: ErrorInfo | None = None
        self.inline = False
        self.keep = False
        self.late = None
        self.output: tuple[bytes, int] | None = None
        self.takes_output = True
        self.token = None
        self.trace_state: TraceState | None = None
        self.written = False

    # What it is.

    @property
    def trace_id(self) -> str:
        """Hex text, 32 characters."""
        return self.start.trace_id.hex()

    @property
    def span_id(self) -> str:
        """Hex text, 16 characters."""
        return self.start.span_id.hex()

    @property
    def name(self) -> str:
        """Its name, as last set."""
        name: str = (self.late.changes.get("name") if self.late is not None else None) or self.start.name
        return name

    @property
    def kind(self) -> str:
        """One of ``SpanKind``."""
        return self.start.kind

    @property
    def status(self) -> SpanStatus:
        """How it ended, or will end as far as was declared; ``running`` while nothing is known."""
        return self.declared or SpanStatus.RUNNING

    @property
    def is_record(self) -> bool:
        """Whether it is the span of a record, not one below it."""
        return self.start.span_id == self.start.record_id

    def get_span_context(self) -> SpanContext:
        """Ids and flags, as OpenTelemetry's propagators send them on."""
        late = self.later()
        found = late.otel
        if found is None:
            start = self.start
            found = late.otel = SpanContext(
                int.from_bytes(start.trace_id, "big"),
                int.from_bytes(start.span_id, "big"),
                False,
                _SAMPLED if self.sampled else _UNSAMPLED,
                self.trace_state,
            )
        return found

    def is_recording(self) -> bool:
        """Whether what is set is kept: it is sampled and has not ended."""
        return self.sampled and self.start.span_id in open_spans

    # What is said of it.

    @trouble.guarded("setting fields of a span")
    def set(
        self,
        *,
        output: Any = ...,
        input: Any = ...,
        usage: Any = None,
        model: str | None = None,
        provider: str | None = None,
        context: Sequence[Any] | None = None,
        expected: Any = ...,
        metadata: Mapping[str, Any] | None = None,
        tags: Sequence[str] | None = None,
        session_id: str | None = None,
        user_id: str | None = None,
        name: str | None = None,
        **attributes: Any,
    ) -> Self:
        """Add what is known by now; what was set before under the same name is replaced. Never raises.

        Parameters
        ----------
        output, input, expected:
            Any value; encoded at once.
        usage:
            ``Usage``, a mapping or an object with the names of OpenAI or Anthropic.
        context:
            Retrieved documents: texts, or objects with ``content``.
        metadata:
            Added to the metadata of this span.
        tags, session_id, user_id, expected:
            Belong to the record: set on a span below it, they are passed on to it. Tags are added to those in force.
        attributes:
            Anything else, as attributes.
        """
        if not self.is_open():
            return self
        late = self.later()
        changes = late.changes
        if output is not ...:
            self.output = self.encode(output)
        if input is not ...:
            changes["input"], changes["input_size"] = self.encode(input)
        if usage is not None:
            changes["usage"] = _usage(usage)
        if model is not None:
            changes["model"] = capture.text(str(model))
        if provider is not None:
            changes["provider"] = capture.text(str(provider))
        if context is not None:
            changes["context"], _ = self.encode([context] if isinstance(context, str) else list(context))
        if metadata is not None:
            late.metadata = {**late.metadata, **metadata}
        if name is not None:
            changes["name"] = capture.text(str(name))
        if tags is not None or session_id is not None or user_id is not None or expected is not ...:
            self._say_of_record(tags, session_id, user_id, expected)
        if attributes:
            self.set_attributes(attributes)
        return self

    def _say_of_record(
        self, tags: Sequence[str] | None, session_id: str | None, user_id: str | None, expected: Any
    ) -> None:
        above = self if self.is_record else self.record_state.span
        target = above if above is not None and above.is_open() else self
        changes = target.later().changes
        if tags is not None:
            before = changes.get("tags", target.start.tags)
            more = (tags,) if isinstance(tags, str) else tags
            changes["tags"] = tuple(dict.fromkeys((*before, *(capture.text(str(tag)) for tag in more))))
        if session_id is not None:
            changes["session_id"] = capture.text(str(session_id))
        if user_id is not None:
            changes["user_id"] = capture.text(str(user_id))
        if expected is not ...:
            changes["expected"], _ = self.encode(expected)

    @trouble.guarded("setting attributes of a span")
    def set_attributes(self, attributes: Mapping[str, Any]) -> None:
        """Set several attributes."""
        for key, value in attributes.items():
            self.set_attribute(key, value)

    @trouble.guarded("setting an attribute of a span")
    def set_attribute(self, key: str, value: Any) -> None:
        """Set one attribute: any value."""
        if not self.is_open():
            return
        late = self.later()
        held = late.attributes
        if len(held) < _ATTRIBUTES or key in held:
            held[capture.text(str(key))] = _held(self, value)
            late.unsaid = True

    @trouble.guarded("adding an event to a span")
    def add_event(self, name: str, attributes: Any = None, timestamp: int | None = None) -> None:
        """Add an event; ``timestamp`` in nanoseconds since the epoch."""
        if not self.is_open():
            return
        events = self.later().events
        if len(events) < _EVENTS:
            held = {str(key): _held(self, value) for key, value in (attributes or {}).items()}
            events.append({"name": capture.text(str(name)), "at": timestamp or _now(), "attributes": held})

    @trouble.guarded("adding a link to a span")
    def add_link(self, context: SpanContext, attributes: Any = None) -> None:
        """Link to another span."""
        if not self.is_open() or not context.is_valid:
            return
        links = self.later().links
        if len(links) < _EVENTS:
            held = {str(key): _held(self, value) for key, value in (attributes or {}).items()}
            ids = {"trace_id": f"{context.trace_id:032x}", "span_id": f"{context.span_id:016x}"}
            links.append({**ids, "attributes": held})

    def update_name(self, name: str) -> None:
        """Replace its name."""
        self.set(name=name)

    @trouble.guarded("setting the status of a span")
    def set_status(self, status: Status | StatusCode, description: str | None = None) -> None:
        """Declare how it ends. An exception that ends it later says more and wins."""
        code = status.status_code if isinstance(status, Status) else status
        said = status.description if isinstance(status, Status) else description
        if code is StatusCode.ERROR:
            self.declared = SpanStatus.ERROR
            if said and self.failure is None:
                self.failure = ErrorInfo(type="", message=capture.text(str(said)))
        elif code is StatusCode.OK:
            self.declared, self.failure = SpanStatus.OK, None

    @trouble.guarded("recording an exception on a span")
    def record_exception(
        self, exception: BaseException, attributes: Any = None, timestamp: int | None = None, escaped: bool = False
    ) -> None:
        """Add an exception as an event; it does not change the status."""
        known = failures.info(exception)
        said = {
            "exception.type": known.type,
            "exception.message": known.message,
            "exception.stacktrace": known.traceback,
            "exception.escaped": str(bool(escaped)),
        }
        self.add_event("exception", {**said, **(attributes or {})}, timestamp)
        if self.failure is None or not self.failure.type:
            self.failure = known

    def begin_with(self, attributes: Mapping[str, Any]) -> None:
        """Attributes of the first frame."""
        held = {capture.text(str(key)): _held(self, value) for key, value in attributes.items()}
        self.later().attributes = held
        self.start.attributes, _ = self._json(held)

    # Helpers.

    def takes_payload(self) -> bool:
        """Whether the journal takes captured values. Near its cap it only takes the spans themselves, and counts."""
        journal = self.keeper.journal
        if journal is None or journal.accepts_payloads:
            return True
        journal.count_drop(PAYLOAD_DROPPED)
        return False

    def encode(self, value: Any) -> tuple[bytes, int]:
        """A value as it is captured under the settings of this span."""
        settings = self.settings
        return _encode(value, settings.capture_limit, settings.mask_keys, self.mask)

    def _json(self, value: Any) -> tuple[bytes, int]:
        settings = self.settings
        return _encode(value, settings.capture_limit, settings.mask_keys, None)

    def hold(self, value: Any) -> Any:
        """An attribute's value as it is now, in plain values."""
        return _held(self, value)

    def is_open(self) -> bool:
        """Whether it has begun here and not ended."""
        return self.start.span_id in open_spans

    def later(self) -> Late:
        """What is set after the beginning."""
        late = self.late
        if late is None:
            late = self.late = Late()
        return late


_PLAIN = frozenset({str, int, float, bool, type(None)})


def _held(span: Described, value: Any) -> Any:
    """An attribute's value as it is now."""
    return value if type(value) in _PLAIN else capture.decode(span._json(value)[0])


def _usage(value: Any) -> Usage | None:
    try:
        return usage.read(value)
    except Exception as error:  # noqa: BLE001
        trouble.note("reading usage", error)
        return None
