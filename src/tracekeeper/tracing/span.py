"""The span: one timed operation of the program, in OpenTelemetry's interface.

Invariants
----------
- It ends once. Who ends it takes it out of ``runtime.open_spans`` with one atomic ``pop``; of several that try (a
  finaliser, another thread, the exit sweep) one gets it. In a forked child that registry is empty, so a span is ended
  by the process that began it.
- Ending takes no lock and waits for nothing: a finaliser may run here.
- Nothing of this raises into the program: what fails is counted (see :mod:`~tracekeeper.tracing.trouble`).
- Values are encoded when they are set, since the program may change them later.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any

from opentelemetry.trace import NonRecordingSpan, SpanContext, Status, StatusCode, TraceFlags, TraceState
from opentelemetry.trace import Span as OtelSpan
from opentelemetry.trace.span import INVALID_SPAN_CONTEXT

from tracekeeper.journal.frames import ErrorInfo, SpanEnd, SpanStart
from tracekeeper.tracing import capture, context, documents, failures, trouble, usage
from tracekeeper.tracing.runtime import open_spans
from tracekeeper.tracing.state import SPANS_KEPT
from tracekeeper.types import SpanStatus, Usage

if TYPE_CHECKING:
    from tracekeeper.configuration import Settings
    from tracekeeper.tracing.chunks import Chunks
    from tracekeeper.tracing.masking import Mask
    from tracekeeper.tracing.runtime import Keeper
    from tracekeeper.tracing.state import AppLink, RecordState

PAYLOAD_DROPPED = "the journal is nearly full: inputs and outputs are left out"
"""Reason under which captured values that were not written are counted."""
_SAMPLED = TraceFlags(TraceFlags.SAMPLED)
_UNSAMPLED = TraceFlags(TraceFlags.DEFAULT)
_EVENTS = 1_000
_ATTRIBUTES = 4_096
_OK, _ERROR = SpanStatus.OK, SpanStatus.ERROR  # looking a member up takes 0.1 µs on Python 3.11
_NO_OUTPUT: tuple[None, int] = (None, 0)
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


class Span(OtelSpan):
    """One timed operation. Get one from ``tk.span(…)``, ``tk.current_span()`` or OpenTelemetry's ``get_current_span``.

    All of ``opentelemetry.trace.Span``, and ``set`` for what an LLM application knows. May be used from any thread.

    Example
    -------
    >>> import tracekeeper as tk
    >>> with tk.span("rerank", kind="reranker") as span:
    ...     span.set(output=["b", "a"], model="cross-encoder")
    """

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
    ) -> Span:
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

    # How it ends.

    def end(self, end_time: int | None = None) -> None:
        """End it by hand, with the status that was declared (default ``ok``). ``end_time`` in nanoseconds."""
        self.close(self.status_or_ok(), ended=end_time)

    def fail(self, error: BaseException, *, quiet: bool = False) -> bool:
        """End it by an exception: ``error``, ``cancelled`` or ``abandoned``. Whether this call ended it."""
        if self.start.span_id not in open_spans:
            return False
        status = failures.status_of(error)
        try:
            if status is not SpanStatus.ABANDONED:
                self.failure = failures.info(error)
        except Exception as failure:  # noqa: BLE001
            trouble.note("describing an exception", failure, quiet=quiet)
        return self.close(status, quiet=quiet)

    def status_or_ok(self) -> SpanStatus:
        """What was declared of its end; without a declaration, a call that returns is ``ok``."""
        return self.declared or _OK

    def sweep(self, status: str) -> None:
        """End it because the program ends; a stream is abandoned, with what was received so far."""
        self.close(SpanStatus.ABANDONED if self.chunks is not None else SpanStatus(status), quiet=True)

    def begin_with(self, attributes: Mapping[str, Any]) -> None:
        """Attributes of the first frame."""
        held = {capture.text(str(key)): _held(self, value) for key, value in attributes.items()}
        self.later().attributes = held
        self.start.attributes, _ = self._json(held)

    def close(self, status: SpanStatus, *, ended: int | None = None, quiet: bool = False) -> bool:
        """End it. Lock-free, once, never raises; whether this was the call that ended it.

        ``quiet``: called by a finaliser or at exit, where not even the log may be written to.
        """
        start = self.start
        if open_spans.pop(start.span_id, None) is None:
            return False
        try:
            self.declared = status
            if quiet:
                self.inline = False
            state = self.record_state
            is_record = state.span is self
            if is_record:
                state.span = None
            if not self.sampled and not self._kept(status):
                self.inline = False
                return True
            output, chunks, late = self.output, self.chunks, self.late
            if chunks is not None and output is None:
                output = chunks.encoded()
            data, size = output or _NO_OUTPUT
            failure = None if status is _OK else self.failure
            end = SpanEnd(
                start.trace_id, start.span_id, start.record_id, ended or _now(), status._value_, data, size, failure
            )
            if chunks is not None:
                end.chunks, end.first_chunk = chunks.count, chunks.first
            if late is not None:
                self._add_late(end, late)
            if is_record:
                state.end = end
                if self.settings.metadata:
                    self._add_metadata(end, late)
                if self.app is not None:
                    self._end_record(end, state, self.app)
                    return True
            elif state.spans is not None and len(state.spans) < SPANS_KEPT:
                state.spans.append((start, end))
            if self.written:
                self.keeper.write(end)
            else:
                self._write_late(end)
        except Exception as error:  # noqa: BLE001
            trouble.note("ending a span", error, quiet=quiet)
        finally:
            self.entered = self.token = None  # the context holds the span: a cycle that only gc would find
        return True

    def _kept(self, status: SpanStatus) -> bool:
        """Whether an unsampled span is written after all."""
        if not self.settings.keep_errors or not (status is _ERROR or self.keep):
            return False
        if self.parent is not None:
            self.parent.keep = True
        return True

    def _end_record(self, end: SpanEnd, state: RecordState, app: AppLink) -> None:
        state.inline = self.inline
        try:
            end.scores = app.decide(state)
        except Exception as error:  # noqa: BLE001
            trouble.note("deciding what the metrics of an app do", error, quiet=True)
        self._write_late(end)
        app.ended(state)

    def _write_late(self, end: SpanEnd) -> None:
        if not self.written:  # not sampled, but kept because of an error
            self.written = True
            self.keeper.write(self.start)
        self.keeper.write(end)

    def _add_metadata(self, end: SpanEnd, late: Late | None) -> None:
        end.metadata, _ = self._json({**(self.settings.metadata or {}), **(late.metadata if late is not None else {})})

    def _add_late(self, end: SpanEnd, late: Late) -> None:
        for field, value in late.changes.copy().items():
            setattr(end, field, value)
        if end.usage is not None:
            self.record_state.has_usage = True
        if end.context is not None:
            self.record_state.documents.append(end.context)
        if late.unsaid:
            end.attributes, _ = self._json(late.attributes.copy())
        if late.events:
            end.events, _ = self._json(late.events.copy())
        if late.links:
            end.links, _ = self._json(late.links.copy())
        if late.metadata:
            end.metadata, _ = self._json(late.metadata)

    # Helpers.

    def take_output(self, value: Any) -> None:
        """Capture a result, as far as settings and journal allow; of a retriever also the documents in it."""
        if not self.takes_output or self.output is not None:
            return
        settings = self.settings
        if not self.sampled and not settings.keep_errors:
            return
        journal = self.keeper.journal
        if journal is None or journal.accepts_payloads:
            self.output = _encode(value, settings.capture_limit, settings.mask_keys, self.mask)
        if self.start.kind == "retriever":
            self._take_documents(value)

    def takes_payload(self) -> bool:
        """Whether the journal takes captured values. Near its cap it only takes the spans themselves, and counts."""
        journal = self.keeper.journal
        if journal is None or journal.accepts_payloads:
            return True
        journal.count_drop(PAYLOAD_DROPPED)
        return False

    def _take_documents(self, value: Any) -> None:
        changes = self.later().changes
        if "context" not in changes:
            found = documents.found_in(value)
            if found is not None:
                changes["context"], _ = self.encode(found)

    def encode(self, value: Any) -> tuple[bytes, int]:
        """A value as it is captured under the settings of this span."""
        settings = self.settings
        return _encode(value, settings.capture_limit, settings.mask_keys, self.mask)

    def _json(self, value: Any) -> tuple[bytes, int]:
        settings = self.settings
        return _encode(value, settings.capture_limit, settings.mask_keys, None)

    def is_open(self) -> bool:
        """Whether it has begun here and not ended."""
        return self.start.span_id in open_spans

    def later(self) -> Late:
        """What is set after the beginning."""
        late = self.late
        if late is None:
            late = self.late = Late()
        return late

    def __enter__(self) -> Span:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if error is None:
            self.end()
        else:
            self.fail(error)

    def __repr__(self) -> str:
        return f"<Span {self.name} {self.kind} {self.declared or 'running'} {self.trace_id}:{self.span_id}>"


class InertSpan(NonRecordingSpan):
    """What there is when there is no span: takes everything, keeps nothing."""

    status = None
    trace_id = ""
    span_id = ""
    name = ""
    kind = ""
    is_record = False
    record_state = None

    def set(self, **fields: Any) -> InertSpan:
        """Does nothing."""
        return self

    def __repr__(self) -> str:
        return "<no span>"


INERT = InertSpan(INVALID_SPAN_CONTEXT)


def current_span() -> Span | InertSpan:
    """The innermost span of ours around the caller; never ``None``: without one, a span that keeps nothing.

    Example
    -------
    >>> current_span().set(user_id="u-1").is_recording()
    False
    """
    try:
        found = context.VAR.get().get(context.OWN_KEY)
    except Exception as error:  # noqa: BLE001
        trouble.note("looking for the current span", error)
        return INERT
    return found if type(found) is Span else INERT


_PLAIN = frozenset({str, int, float, bool, type(None)})


def _held(span: Span, value: Any) -> Any:
    """An attribute's value as it is now."""
    return value if type(value) in _PLAIN else capture.decode(span._json(value)[0])


def _usage(value: Any) -> Usage | None:
    try:
        return usage.read(value)
    except Exception as error:  # noqa: BLE001
        trouble.note("reading usage", error)
        return None
