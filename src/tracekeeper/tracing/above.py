"""A span that lies above records: a request that a server handles.

What is called inside is a record, or not, as if the request span were not there; only the trace and the parent are its
own. So adding it to a server joins what belongs to one request, and changes neither the number of records nor what they
are. A request that arrives inside a record (a test that calls the server in its own process) is part of that record,
like any other call.
"""

from __future__ import annotations

import time
from typing import Any

from opentelemetry.context.context import Context

from tracekeeper.configuration import Settings
from tracekeeper.journal.frames import SpanStart
from tracekeeper.tracing import ids, opening, runtime
from tracekeeper.tracing.context import KEY, OWN_KEY, VAR, containing
from tracekeeper.tracing.recordings import active
from tracekeeper.tracing.spans import Span
from tracekeeper.tracing.state import RecordState


class SpanAbove(Span):
    """A span of ours that is a third party's to what is called inside: a parent, and no record."""

    __slots__ = ()


def open_above(now: Settings, name: str, kind: str) -> Span:
    """A span that begins now, below what is current. It is written by ``announce`` and made current by ``enter``."""
    around = VAR.get()
    if around.get(OWN_KEY) is not None:
        return opening.open_span(now, name, kind)
    current = around.get(KEY)
    span = SpanAbove()
    if current is None:
        trace_id, parent_id, told = ids.trace_id(), None, None
    else:
        trace_id, parent_id, told = opening.below_other(span, current)
    span.settings, span.mask, span.parent = now, now.mask, None
    span.sampled = opening.kept(trace_id, now, told) or bool(active.get())
    span.keeper = runtime.keeper()
    span.record_state = RecordState(trace_id, b"", span.keeper, sampled=span.sampled)
    span.start = SpanStart(trace_id, ids.span_id(), parent_id, b"", name, kind, time.time_ns(), None, None, now.project)
    return span


def enter(span: Span) -> tuple[Any, Context]:
    """Make it the current span here, until ``context.leave`` of what this returns: longer than the span, if need be."""
    around = VAR.get()
    entered = Context({**around, KEY: span}) if isinstance(span, SpanAbove) else containing(span, around)
    return VAR.set(entered), entered
