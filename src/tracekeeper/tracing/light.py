"""A tracer provider of ours, for programs that have none: instrumentations' spans without the OpenTelemetry SDK.

Without a provider the API hands out tracers that do nothing. This one's tracers begin spans of ours. It is in force
only as long as the program sets none of its own: from then on its tracers, which instrumentations keep for ever, hand
everything on to the program's provider.

It is a ``ProxyTracerProvider``, since that is what it stands in for: libraries that look whether a provider was set
find that none was, and set theirs.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping
from types import TracebackType
from typing import Any

import opentelemetry.trace as otel
from opentelemetry.trace import NoOpTracer, ProxyTracerProvider, Tracer, use_span

from tracekeeper.concurrency.own_work import doing_own_work
from tracekeeper.tracing import failures, foreign, ids, opening, trouble
from tracekeeper.tracing.context import VAR
from tracekeeper.tracing.foreign import ForeignSpan
from tracekeeper.types import SpanStatus

try:
    from opentelemetry.util._decorator import _agnosticcontextmanager as managing
except ImportError:  # a private name: without it, the method cannot be used as a decorator of coroutines
    from contextlib import contextmanager as managing  # type: ignore[assignment]

_nothing = NoOpTracer()


class LightProvider(ProxyTracerProvider):
    """Gives tracers whose spans are ours, until the program has a provider.

    Parameters
    ----------
    successor:
        What the program has set by now, if anything; asked at each span.
    """

    def __init__(self, successor: Callable[[], Any]) -> None:
        self.successor = successor
        self.active = True

    def get_tracer(
        self,
        instrumenting_module_name: str,
        instrumenting_library_version: str | None = None,
        schema_url: str | None = None,
        attributes: Any = None,
    ) -> Tracer:
        """See ``opentelemetry.trace.TracerProvider``."""
        return LightTracer(self, (instrumenting_module_name, instrumenting_library_version, schema_url, attributes))


class LightSpan(otel.Span):
    """What an instrumentation holds of a span of ours.

    The span itself is held until it ends (see ``runtime.open_spans``). This is not: when nobody holds it any more
    nobody will end the span, so it ends then.
    """

    __slots__ = ("ours",)

    def __init__(self, ours: ForeignSpan) -> None:
        self.ours = ours

    def get_span_context(self) -> otel.SpanContext:
        """See ``opentelemetry.trace.Span``, as of all others."""
        return self.ours.get_span_context()

    def is_recording(self) -> bool:
        return self.ours.is_recording()

    def set_attributes(self, attributes: Any) -> None:
        self.ours.set_attributes(attributes)

    def set_attribute(self, key: str, value: Any) -> None:
        self.ours.set_attribute(key, value)

    def add_event(self, name: str, attributes: Any = None, timestamp: int | None = None) -> None:
        self.ours.add_event(name, attributes, timestamp)

    def add_link(self, context: otel.SpanContext, attributes: Any = None) -> None:
        self.ours.add_link(context, attributes)

    def update_name(self, name: str) -> None:
        self.ours.update_name(name)

    def set_status(self, status: Any, description: str | None = None) -> None:
        self.ours.set_status(status, description)

    def record_exception(
        self, exception: BaseException, attributes: Any = None, timestamp: int | None = None, escaped: bool = False
    ) -> None:
        self.ours.record_exception(exception, attributes, timestamp, escaped)

    def end(self, end_time: int | None = None) -> None:
        self.ours.end(end_time)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if error is None:
            self.ours.end()
        else:
            self.ours.fail(error)

    def __del__(self) -> None:
        with contextlib.suppress(AttributeError):  # it was never completed
            self.ours.close(SpanStatus.ABANDONED, quiet=True)

    def __repr__(self) -> str:
        return repr(self.ours)


class LightTracer(Tracer):
    """Begins spans of ours, or has the program's own provider do so once there is one."""

    def __init__(self, provider: LightProvider, arguments: tuple[Any, ...]) -> None:
        self._provider = provider
        self._arguments = arguments
        self._given: tuple[Any, Any] = (None, None)

    def start_span(self, name: str, context: Any = None, *args: Any, **kwargs: Any) -> otel.Span:
        """See ``opentelemetry.trace.Tracer``."""
        real = self._real()
        if real is not None:
            return real.start_span(name, context, *args, **kwargs)  # type: ignore[no-any-return]
        try:
            now = opening.enabled() if self._provider.active and not doing_own_work() else None
            if now is not None:
                return self._begun(now, name, VAR.get() if context is None else context, *args, **kwargs)
        except Exception as error:  # noqa: BLE001
            trouble.note("beginning a third party's span", error)
        return _nothing.start_span(name, context)

    @managing
    def start_as_current_span(
        self,
        name: str,
        context: Any = None,
        kind: otel.SpanKind = otel.SpanKind.INTERNAL,
        attributes: Any = None,
        links: Any = None,
        start_time: int | None = None,
        record_exception: bool = True,
        set_status_on_exception: bool = True,
        end_on_exit: bool = True,
    ) -> Iterator[otel.Span]:
        """See ``opentelemetry.trace.Tracer``."""
        span = self.start_span(
            name, context, kind, attributes, links, start_time, record_exception, set_status_on_exception
        )
        with use_span(span, end_on_exit, record_exception, set_status_on_exception):
            try:
                yield span
            except BaseException as error:
                if isinstance(span, LightSpan) and set_status_on_exception:
                    span.ours.cancelled = failures.status_of(error) is SpanStatus.CANCELLED
                raise

    def _real(self) -> Any:
        """The tracer of the program's provider, once it has one."""
        provider = self._provider.successor()
        if provider is None:
            return None
        given = self._given
        if given[0] is not provider:
            given = self._given = (provider, provider.get_tracer(*self._arguments))
        return given[1]

    def _begun(
        self,
        now: Any,
        name: str,
        around: Mapping[str, Any],
        kind: otel.SpanKind = otel.SpanKind.INTERNAL,
        attributes: Any = None,
        links: Any = None,
        start_time: int | None = None,
        record_exception: bool = True,
        set_status_on_exception: bool = True,
    ) -> LightSpan:
        parent = otel.get_current_span(around).get_span_context()  # type: ignore[arg-type]
        told = None
        if parent.is_valid:
            trace_id, parent_id = parent.trace_id.to_bytes(16, "big"), parent.span_id.to_bytes(8, "big")
            told = parent.trace_flags.sampled if parent.is_remote else None
        else:
            trace_id, parent_id = ids.trace_id(), None
        begun = foreign.begin(
            now,
            str(name),
            around,
            (trace_id, ids.span_id(), parent_id),
            started=start_time or time.time_ns(),
            scope=str(self._arguments[0] or ""),
            kind=kind,
            attributes=attributes,
            links=links or (),
            told=told,
        )
        if parent.is_valid and parent.trace_state:
            begun.trace_state = parent.trace_state
        return LightSpan(begun)
