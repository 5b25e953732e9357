"""Third parties' OpenTelemetry spans on their way into our journal: ``join`` and ``leave``.

A provider that the program has set is joined with a span processor and is otherwise left alone. Where there is none, a
light one of ours stands in (see ``light``), in a way that lets the program set its own at any time: then ours gives way
and joins that one. To be there at that moment a private function of opentelemetry-api is wrapped, and ours is put into
a private variable of it, because the public way could be gone only once. Where these names are missing (another
version), a provider that is there is joined, and nothing stands in for one that is not.

Invariants
----------
- A provider has at most one processor of ours, which is asleep while the bridge is not joined; the SDK has no way to
  take one out again.
- Nothing of ours is ever registered as the program's provider.
- Our own spans come from no provider: the processor never sees them, so nothing is written twice.
- What we do ourselves (a statement that stores spans, through an instrumented driver) is not taken: it would never end.
"""

from __future__ import annotations

import logging
import os
import sys
import threading
import weakref
from collections.abc import Callable
from typing import Any

import opentelemetry.trace as otel

from tracekeeper.concurrency.own_work import doing_own_work
from tracekeeper.tracing import foreign, ids, opening, runtime, trouble
from tracekeeper.tracing.context import VAR
from tracekeeper.tracing.foreign import DROPPED, ForeignSpan
from tracekeeper.tracing.light import LightProvider
from tracekeeper.types import SpanStatus

__all__ = ["join", "leave", "processor"]

log = logging.getLogger("tracekeeper")

_GLOBAL, _SET = "_TRACER_PROVIDER", "_set_tracer_provider"
_lock = threading.RLock()
_joined = False
_light: LightProvider | None = None
_set_before: Callable[..., Any] | None = None
_processors: list[tuple[weakref.ref[Any], Any]] = []
_refused: set[str] = set()

Key = tuple[int, int, int]
"""Trace id, span id, start: a program that seeds ``random`` gives the same ids twice."""

_open: dict[Key, ForeignSpan] = {}


def join() -> None:
    """Take the spans of whatever provider the program has, or sets later. Joining twice changes nothing.

    Example
    -------
    >>> join()
    >>> leave()
    """
    global _joined
    with _lock:
        _joined = True
        _watch_for_a_provider()
        _adapt()
        for _, each in _processors:
            each.awake = True


def leave() -> None:
    """Take nothing more, and leave OpenTelemetry as it was found; open spans still end. Twice changes nothing."""
    global _joined, _set_before
    with _lock:
        _joined = False
        for _, each in _processors:
            each.awake = False
        if _light is not None:
            _light.active = False
            if getattr(otel, _GLOBAL, None) is _light:
                setattr(otel, _GLOBAL, None)
        if _set_before is not None:
            # Somebody may have wrapped it after us: then ours stays inside, and does nothing.
            if getattr(getattr(otel, _SET, None), "_tracekeepers", False):
                setattr(otel, _SET, _set_before)
            _set_before = None


def processor() -> Any:
    """A span processor for a provider that is not the global one: ``provider.add_span_processor(processor())``.

    It needs the OpenTelemetry SDK, and takes that provider's spans whether or not the bridge is joined.
    """
    return _made_processor()


def _watch_for_a_provider() -> None:
    """Have ``_adapt`` called when the program sets its provider."""
    global _set_before
    original = getattr(otel, _SET, None)
    if _set_before is not None or original is None or not hasattr(otel, _GLOBAL):
        return

    def setting(*args: Any, **kwargs: Any) -> Any:
        result = original(*args, **kwargs)
        try:
            if _joined:
                with _lock:
                    _adapt()
        except Exception as error:  # noqa: BLE001
            trouble.note("joining the tracer provider that the program set", error)
        return result

    setting._tracekeepers = True  # type: ignore[attr-defined]
    _set_before = original
    setattr(otel, _SET, setting)


def _adapt() -> None:
    """Join the provider that there is; stand in where there is none."""
    global _light
    provider = _provider()
    if provider is not None:
        _join_provider(provider)
    elif hasattr(otel, _GLOBAL):
        if _light is None:  # one for good: instrumentations keep the tracers that it gave them
            _light = LightProvider(_provider)
        _light.active = True
        setattr(otel, _GLOBAL, _light)
    else:
        log.info(
            "this version of opentelemetry-api is not known: instrumentations' spans are taken when the program sets a "
            "tracer provider before Tracekeeper joins it"
        )


def _provider() -> Any:
    """What the program has set; ``None``: nothing (ours does not count). Lock-free: asked at each span."""
    found = getattr(otel, _GLOBAL, None)
    if isinstance(found, LightProvider):
        return None
    if found is not None:
        return found
    if hasattr(otel, _GLOBAL) and "OTEL_PYTHON_TRACER_PROVIDER" not in os.environ:
        return None
    # One that the environment names is made at this moment, as it would be for the first instrumentation that asks.
    found = otel.get_tracer_provider()
    return None if isinstance(found, otel.ProxyTracerProvider) else found


def _join_provider(provider: Any) -> None:
    _processors[:] = [pair for pair in _processors if pair[0]() is not None]
    if any(known() is provider for known, _ in _processors):
        return
    add = getattr(provider, "add_span_processor", None)
    if add is None:
        name = type(provider).__qualname__
        if name not in _refused:
            _refused.add(name)
            log.warning("the program's tracer provider (%s) takes no span processors: its spans are not taken", name)
        return
    made = _made_processor()
    add(made)
    _processors.append((weakref.ref(provider), made))


class _Taker:
    """What a span processor of the SDK does. It takes part in every span of the program: it must not raise."""

    awake = True

    def on_start(self, span: Any, parent_context: Any = None) -> None:
        """A span began, in the program's thread."""
        try:
            if self.awake and not doing_own_work():
                _take(span, VAR.get() if parent_context is None else parent_context)
        except Exception as error:  # noqa: BLE001
            trouble.note("taking a third party's span", error)

    def _on_ending(self, span: Any) -> None:
        """Nothing: it is read when it has ended."""

    def on_end(self, span: Any) -> None:
        """It ended."""
        try:
            taken = _open.pop(_key(span), None)
            if taken is not None:
                _look(taken, span)
                taken.close(taken.status_or_ok(), ended=span.end_time)
        except Exception as error:  # noqa: BLE001
            trouble.note("ending a third party's span", error)

    def shutdown(self) -> None:
        """Nothing: the journal is closed when the program ends."""

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """Nothing to wait for: what ended is in the journal."""
        return True


def _made_processor() -> Any:
    sdk = sys.modules.get("opentelemetry.sdk.trace")
    base = getattr(sdk, "SpanProcessor", None)
    # Of the SDK's own class, if it is there: what later versions ask of a processor, that one answers.
    kind = _Taker if base is None else type("TracekeeperSpanProcessor", (_Taker, base), {})
    return kind()


class _Looker:
    """Looks at a span that has not ended: when the program ends, or when the span was thrown away."""

    __slots__ = ("_attributes", "_key", "_ref")

    def __init__(self, key: Key, span: Any, taken: ForeignSpan) -> None:
        self._key = key
        self._attributes = span.attributes  # a view of what will be set; it outlives the span
        self._ref = weakref.ref(span, self._dropped)

    def look(self, taken: ForeignSpan) -> None:
        span = self._ref()
        if span is not None:
            _look(taken, span)
        else:
            taken.later().attributes = {str(key): taken.hold(value) for key, value in dict(self._attributes).items()}

    def _dropped(self, _: Any) -> None:
        """Nothing holds the span any more, so nobody will end it. In a finaliser: no lock, no log."""
        taken = _open.pop(self._key, None)
        if taken is not None and taken.is_open():
            try:
                self.look(taken)
            except Exception as error:  # noqa: BLE001
                trouble.note("looking at a third party's span that was thrown away", error, quiet=True)
            taken.close(SpanStatus.ABANDONED, quiet=True)


def _key(span: Any) -> Key:
    known = span.context
    return known.trace_id, known.span_id, span.start_time or 0


def _take(span: Any, around: Any) -> None:
    now = opening.enabled()
    if now is None:
        return
    known, parent = span.context, span.parent
    span_id = known.span_id.to_bytes(8, "big")
    attributes = dict(span.attributes or {})
    if span_id in runtime.open_spans:  # the program seeded `random`: both are kept
        attributes["tracekeeper.duplicate_of"] = span_id.hex()
        span_id = ids.span_id()
    scope = span.instrumentation_scope
    taken = foreign.begin(
        now,
        str(span.name),
        around,
        (
            known.trace_id.to_bytes(16, "big"),
            span_id,
            None if parent is None else parent.span_id.to_bytes(8, "big"),
        ),
        started=span.start_time,
        scope="" if scope is None else str(scope.name or ""),
        kind=span.kind,
        attributes=attributes,
        links=span.links,
        told=parent.trace_flags.sampled if parent is not None and parent.is_remote else None,
    )
    taken.trace_state = known.trace_state or None
    key = _key(span)
    taken.taken = _Looker(key, span, taken)
    _open[key] = taken


def _look(taken: ForeignSpan, span: Any) -> None:
    """Take over what was said of it."""
    late = taken.later()
    held = {str(key): taken.hold(value) for key, value in dict(span.attributes or {}).items()}
    dropped = getattr(span, "dropped_attributes", 0)
    if dropped:  # the oldest ones, which may be the first messages: whoever reads it must know
        held[DROPPED] = dropped
    if "tracekeeper.duplicate_of" in late.attributes:
        held["tracekeeper.duplicate_of"] = late.attributes["tracekeeper.duplicate_of"]
    late.attributes = held
    if span.name != taken.start.name:
        taken.set(name=span.name)
    late.events.clear()
    for event in span.events:
        taken.add_event(event.name, event.attributes, event.timestamp)
    late.links.clear()
    for link in span.links:
        taken.add_link(link.context, link.attributes)
    taken.set_status(span.status)


def _after_fork_in_child() -> None:
    global _lock
    _lock = threading.RLock()
    opening.inherited.update({taken.start.span_id: taken for taken in _open.values()})
    _open.clear()  # the parent's, which ends them


runtime.after_fork_in_child(_after_fork_in_child)
