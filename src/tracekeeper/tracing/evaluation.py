"""The span around one evaluation, which comes into being when something is traced inside it.

A metric that compares two texts runs thousands of times a second and leaves no trace; one that asks a judge leaves the
judge's prompt and answer. So what is current inside an evaluation is an :class:`Evaluation`: as cheap as an object, and
a span of kind ``evaluator``, in a trace of its own, from the first span below it (or the first word said of it) on.

Nothing of an evaluation is a record: its span and all below have an empty record id. An app called inside is a span
like any other there, and its own metrics do not run: metrics of metrics would have no end.

Invariants
----------
- ``begin`` takes no lock, since a finaliser may trace: of several threads one's span is taken and written.
- It ends once, whoever ends it. What is traced after its end (by a thread that was given up) finds a span that has
  ended, so nothing stays open for it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from opentelemetry.trace import Span as OtelSpan
from opentelemetry.trace import SpanContext
from opentelemetry.trace.span import INVALID_SPAN_CONTEXT

from tracekeeper.journal.frames import ErrorInfo, SpanStart
from tracekeeper.tracing import capture, ids, opening, trouble
from tracekeeper.tracing.context import OWN_KEY, VAR, containing
from tracekeeper.tracing.opening import enabled
from tracekeeper.tracing.spans import INERT, InertSpan, Span
from tracekeeper.tracing.state import RecordState, Unbegun
from tracekeeper.types import SpanKind, SpanStatus, Usage

if TYPE_CHECKING:
    from tracekeeper.configuration import Settings
    from tracekeeper.tracing.keeper import Keeper


class Opening(NamedTuple):
    """What is known of an evaluation when its span begins."""

    name: str
    started: int
    """Nanoseconds since the epoch."""
    attributes: Mapping[str, Any]
    input: Any = ...
    judged: tuple[bytes, bytes] | None = None
    """Trace id and span id of what is judged."""


class Ending(NamedTuple):
    """How an evaluation ended."""

    status: SpanStatus
    ended: int
    output: Any = ...
    failure: ErrorInfo | None = None


class Evaluation(Unbegun, OtelSpan):
    """What is current inside an evaluation. A subclass says what it is of: ``opening``, ``ending``, ``begun``."""

    __slots__ = ("_held", "keeper", "over", "usages")

    def __init__(self, keeper: Keeper) -> None:
        self.keeper = keeper
        self.over = False
        self.usages: list[Usage] = []
        """What the spans inside reported so far."""
        self._held: dict[str, Span] = {}

    def opening(self) -> Opening:
        """What the span begins with. Called when it does."""
        raise NotImplementedError

    def ending(self) -> Ending:
        """What it ended with. Called after ``finish``."""
        raise NotImplementedError

    def begun(self, span: Span) -> None:
        """The span began while the evaluation was going on."""

    # Its life.

    def enter(self) -> None:
        """Make it current here, for good: an evaluation runs in a context of its own."""
        VAR.set(containing(self, VAR.get()))

    @property
    def span(self) -> Span | None:
        """Its span, if that has begun."""
        return self._held.get("span")

    def begin(self) -> Span | None:
        """Its span, which begins now if it has not; ``None`` where tracing is off. Lock-free."""
        span = self._held.get("span")
        if span is not None:
            return span
        now = enabled()
        if now is None:
            return None
        made = self._made(now)
        span = self._held.setdefault("span", made)
        if span is made:
            opening.announce(span)
            if not self.over:
                self.begun(span)
            if self.over:  # traced by somebody who was given up: it is there for what is below it, and has ended
                self._close(span)
        return span

    def finish(self) -> None:
        """It is over. Once it was called, another call does nothing; never raises an ``Exception``."""
        if self.over:
            return
        self.over = True  # first: a span that begins at this moment sees it
        span = self._held.get("span")
        if span is not None:
            self._close(span)

    def _close(self, span: Span) -> None:
        try:
            end = self.ending()
            if end.output is not ...:
                span.take_output(end.output)
            span.failure = end.failure
            span.close(end.status, ended=end.ended)
        except Exception as error:  # noqa: BLE001
            trouble.note("ending the span of an evaluation", error)
            span.close(SpanStatus.ERROR)
        span.record_state.evaluation = _OVER  # else they hold each other: a cycle that only gc would find

    def _made(self, now: Settings) -> Span:
        told = self.opening()
        trace_id, span_id = ids.trace_id(), ids.span_id()
        span = Span()
        span.settings, span.mask, span.parent, span.sampled = now, now.mask, None, True  # it goes with what is judged
        span.keeper = self.keeper
        span.takes_output = now.capture_output
        span.record_state = RecordState(trace_id, b"", self.keeper, evaluation=self)
        start = span.start = SpanStart(
            trace_id,
            span_id,
            None,
            b"",
            capture.text(told.name),
            SpanKind.EVALUATOR.value,
            told.started,
            project=now.project,
            session_id=now.session_id,
            user_id=now.user_id,
            environment=now.environment,
            release=now.release,
            tags=now.tags,
        )
        if told.input is not ... and now.capture_input and opening.takes_payload(span):
            start.input, start.input_size = span.encode(told.input)
        span.begin_with(told.attributes)
        if told.judged is not None:
            trace, judged = told.judged
            span.later().links.append({"trace_id": trace.hex(), "span_id": judged.hex(), "attributes": {}})
        return span

    def used(self, usage: Usage) -> None:
        """A span inside reported this. Lock-free."""
        if not self.over:
            self.usages.append(usage)

    # OpenTelemetry's interface: whatever is said of it is said of its span.

    def _said(self) -> Span | InertSpan:
        try:
            return self.begin() or INERT
        except Exception as error:  # noqa: BLE001
            trouble.note("beginning the span of an evaluation", error)
            return INERT

    def get_span_context(self) -> SpanContext:
        """Whoever asks means to trace something below it."""
        span = self._said()
        return INVALID_SPAN_CONTEXT if span is INERT else span.get_span_context()

    def is_recording(self) -> bool:
        """Whether what is said of it is kept."""
        return not self.over

    def end(self, end_time: int | None = None) -> None:
        """Does nothing: it ends with the evaluation."""

    def set_attributes(self, attributes: Any) -> None:
        """As of a span."""
        self._said().set_attributes(attributes)

    def set_attribute(self, key: str, value: Any) -> None:
        """As of a span."""
        self._said().set_attribute(key, value)

    def add_event(self, name: str, attributes: Any = None, timestamp: int | None = None) -> None:
        """As of a span."""
        self._said().add_event(name, attributes, timestamp)

    def add_link(self, context: SpanContext, attributes: Any = None) -> None:
        """As of a span."""
        self._said().add_link(context, attributes)

    def update_name(self, name: str) -> None:
        """As of a span."""
        self._said().update_name(name)

    def set_status(self, status: Any, description: str | None = None) -> None:
        """Does nothing: the score says how it ended."""

    def record_exception(
        self, exception: BaseException, attributes: Any = None, timestamp: int | None = None, escaped: bool = False
    ) -> None:
        """As of a span."""
        self._said().record_exception(exception, attributes, timestamp, escaped)


class _Over(Unbegun):
    """In the place of an evaluation that has ended, for what is traced below it all the same."""

    __slots__ = ()

    def used(self, usage: Usage) -> None:
        """It comes too late to count."""


_OVER = _Over()


def current_evaluation() -> Unbegun | None:
    """The evaluation that the caller is part of, if any. Begins nothing."""
    found = VAR.get().get(OWN_KEY)
    return found.record_state.evaluation if type(found) is Span else found if isinstance(found, Unbegun) else None
