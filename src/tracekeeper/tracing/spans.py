"""The span: one timed operation of the program, in OpenTelemetry's interface.

Invariants
----------
- It ends once. Who ends it takes it out of ``runtime.open_spans`` with one atomic ``pop``; of several that try (a
  finaliser, another thread, the exit sweep) one gets it. In a forked child that registry is empty, so a span is ended
  by the process that began it.
- Ending takes no lock and waits for nothing: a finaliser may run here.
- Nothing of this raises into the program: what fails is counted (see :mod:`~tracekeeper.tracing.trouble`).
- An end frame carries only what the start did not say.
"""

from __future__ import annotations

import time
from types import TracebackType
from typing import TYPE_CHECKING, Any

from opentelemetry.trace import NonRecordingSpan
from opentelemetry.trace.span import INVALID_SPAN_CONTEXT

from tracekeeper.journal.frames import SpanEnd
from tracekeeper.tracing import capture, context, documents, failures, trouble
from tracekeeper.tracing.described import Described, Late
from tracekeeper.tracing.runtime import open_spans
from tracekeeper.tracing.state import SPANS_KEPT, Unbegun
from tracekeeper.types import SpanStatus

if TYPE_CHECKING:
    from tracekeeper.tracing.chunks import Chunks
    from tracekeeper.tracing.state import AppLink, RecordState

_OK, _ERROR = SpanStatus.OK, SpanStatus.ERROR  # looking a member up takes 0.1 µs on Python 3.11
_NO_OUTPUT: tuple[None, int] = (None, 0)
_now = time.time_ns
_encode = capture.encoded


class Span(Described):
    """One timed operation. Get one from ``tk.span(…)``, ``tk.current_span()`` or OpenTelemetry's ``get_current_span``.

    All of ``opentelemetry.trace.Span``, and ``set`` for what an LLM application knows. May be used from any thread.

    Example
    -------
    >>> import tracekeeper as tk
    >>> with tk.span("rerank", kind="reranker") as span:
    ...     _ = span.set(output=["b", "a"], model="cross-encoder")
    """

    __slots__ = ()

    def end(self, end_time: int | None = None) -> None:
        """End it by hand, with the status that was declared (default ``ok``). ``end_time`` in nanoseconds."""
        self.close(self.status_or_ok(), ended=end_time)

    def fail(self, error: BaseException, *, quiet: bool = False) -> bool:
        """End it by an exception: ``error``, ``cancelled`` or ``abandoned``. Whether this call ended it."""
        if self.start.span_id not in open_spans:
            return False
        status = _ERROR
        try:
            status = failures.status_of(error)
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

    def close(self, status: SpanStatus, *, ended: int | None = None, quiet: bool = False) -> bool:
        """End it. Lock-free, once, never raises; whether this was the call that ended it.

        ``quiet``: called by a finaliser or at exit, where not even the log may be written to.
        """
        start = self.start
        if open_spans.pop(start.span_id, None) is None:
            return False
        try:
            if self.chunks is not None:
                status = self._ending(self.chunks, status, quiet)
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
        return True

    @staticmethod
    def _ending(chunks: Chunks, status: SpanStatus, quiet: bool) -> SpanStatus:
        try:
            return chunks.ending(status)
        except Exception as error:  # noqa: BLE001
            trouble.note("reading what a stream said", error, quiet=quiet)
            return status

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
            if self.record_state.evaluation is not None:
                self.record_state.evaluation.used(end.usage)
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

    def take_output(self, value: Any) -> None:
        """Capture a result, as far as settings and journal allow; of a retriever also the documents in it."""
        retrieves = self.start.kind == "retriever"
        if retrieves and (gathered := documents.collecting.get()) is not None:
            gathered.extend(documents.found_in(value) or ())  # a guard wants them whether or not they are captured
        if not self.takes_output or self.output is not None:
            return
        settings = self.settings
        if not self.sampled and not settings.keep_errors:
            return
        journal = self.keeper.journal
        if journal is None or journal.accepts_payloads or self.takes_payload():
            self.output = _encode(value, settings.capture_limit, settings.mask_keys, self.mask)
        if retrieves:
            self._take_documents(value)

    def _take_documents(self, value: Any) -> None:
        changes = self.later().changes
        if "context" not in changes:
            found = documents.found_in(value)
            if found is not None:
                changes["context"], _ = self.encode(found)

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
        if isinstance(found, Unbegun):
            found = found.begin()
    except Exception as error:  # noqa: BLE001
        trouble.note("looking for the current span", error)
        return INERT
    return found if type(found) is Span else INERT
