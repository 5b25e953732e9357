"""How a span begins: its parent, its record, whether it is sampled, its first frame.

A span belongs to the record of the innermost span of ours around it, as long as that is of the same trace: a request
span of a web server or a client's own span may lie in between or above. Without one it is a record itself; an app's
span always is, unless it is called inside an evaluation (see :mod:`~tracekeeper.tracing.evaluation`).

Whether a trace is kept is read off its id: our ids are random, so this is a draw made once at the root, and every
process that sees the same trace draws the same. A trace that comes from another service is kept when that service kept
it: its flag says so, whatever ``sample`` is here.
"""

from __future__ import annotations

import time
from _thread import get_ident as _ident
from collections.abc import Mapping
from typing import Any

from opentelemetry.trace import Span as OtelSpan

from tracekeeper.configuration import Settings, settings
from tracekeeper.configuration import environment as switches
from tracekeeper.configuration.settings import base_settings, overrides
from tracekeeper.journal.frames import SpanStart
from tracekeeper.tracing import context, ids, lost_context, masking, recordings, runtime
from tracekeeper.tracing.context import KEY, OWN_KEY, VAR, containing
from tracekeeper.tracing.spans import Span
from tracekeeper.tracing.state import AppLink, RecordState, Unbegun

_now = time.time_ns
_bits = ids.bits
_active = recordings.active
_checked: tuple[Settings | None, bool] = (None, False)
inherited: dict[bytes, Span] = {}
"""In a forked child: third parties' spans that were open in its parent, below which it may go on."""


def enabled() -> Settings | None:
    """The settings in force here, or ``None`` when tracing is off (by the kill switch or by ``enabled=False``).

    The kill switch is read again when the base settings change, not at every call.
    """
    global _checked
    base = base_settings()
    checked = _checked
    if checked[0] is not base:
        checked = _checked = (base, switches.disabled())
    if checked[1]:
        return None
    now = base if overrides() is None else settings()
    return now if now.enabled else None


def open_span(
    now: Settings, name: str, kind: str, app: AppLink | None = None, mask: masking.Mask | None = None
) -> Span:
    """A span that begins now, below what is current here. It is not written before ``announce``."""
    around = VAR.get()
    current = around.get(KEY)
    span = Span()
    parent: Span | None
    parent_id: bytes | None
    told: bool | None = None
    if current is None:
        if lost_context.on and _ident() != lost_context.main_thread:
            lost_context.look()
        parent = parent_id = None
        trace_id = _bits(128).to_bytes(16, "big")
    elif type(current) is Span:
        parent = current
        above = current.start
        trace_id, parent_id = above.trace_id, above.span_id
        span.trace_state = current.trace_state
    elif isinstance(current, Unbegun):
        parent = current.begin()
        if parent is None:
            raise RuntimeError("tracing is off for the evaluation around it")
        trace_id, parent_id = parent.start.trace_id, parent.start.span_id
    else:
        trace_id, parent_id, told = below_other(span, current)
        parent = span_around(around, current, trace_id, parent_id if told is None else None)
    span_id = _bits(64).to_bytes(8, "big")
    span.settings = now
    span.mask = now.mask if mask is None else masking.both(mask, now.mask)
    span.parent = parent
    if parent is not None:
        span.sampled = parent.sampled or bool(_active.get())
        span.keeper = keeper = parent.keeper
        if app is None or parent.record_state.evaluation is not None:
            state = span.record_state = parent.record_state
            span.start = SpanStart(
                trace_id, span_id, parent_id, state.span_id, name, kind, _now(), None, None, now.project
            )
            return span
    else:
        span.sampled = kept(trace_id, now, told) or bool(_active.get())
        span.keeper = keeper = runtime.keeper()
    start = span.start = SpanStart(
        trace_id,
        span_id,
        parent_id,
        span_id,
        name,
        kind,
        _now(),
        None,
        None,
        now.project,
        now.session_id,
        now.user_id,
        now.environment,
        now.release,
        now.tags,
    )
    enclosing = None if parent is None else parent.record_state
    state = RecordState(trace_id, span_id, keeper, app, enclosing, span, start, span.sampled)
    span.record_state = state
    if app is not None:
        span.app, span.inline = app, app.has_inline
        start.app, start.app_version = app.name, app.version
        if app.needs_spans:
            state.spans = []
    return span


def announce(span: Span) -> None:
    """Write that it began, and tell the recordings in force."""
    state = span.record_state
    runtime.open_spans[span.start.span_id] = span
    if span.sampled:
        span.written = True
        span.keeper.write(span.start)
    if state.span is span:
        for sink in _active.get():
            sink.begun(state)


def enter(span: Span) -> None:
    """Make it the current span here."""
    entered = span.entered = containing(span, VAR.get())
    span.token = VAR.set(entered)


def leave(span: Span) -> None:
    """It is not the current span here any more, whether or not it has ended. Never raises."""
    token, entered = span.token, span.entered
    if token is not None:
        span.token = span.entered = None  # the context holds the span: a cycle that only gc would find
        context.leave(token, entered)


def takes_payload(span: Span) -> bool:
    """Whether values are to be captured at all."""
    if not span.sampled and not span.settings.keep_errors:
        return False
    journal = span.keeper.journal
    return journal is None or journal.accepts_payloads or span.takes_payload()


def below_other(span: Span, current: OtelSpan) -> tuple[bytes, bytes | None, bool | None]:
    """Trace and parent below a span of no record; of a request's, or one in another process, also whether kept."""
    known = current.get_span_context()
    if not known.is_valid:
        return ids.trace_id(), None, None
    if known.trace_state:
        span.trace_state = known.trace_state
    told = current.sampled if isinstance(current, Span) else known.trace_flags.sampled if known.is_remote else None
    return known.trace_id.to_bytes(16, "big"), known.span_id.to_bytes(8, "big"), told


def kept(trace_id: bytes, now: Settings, told: bool | None) -> bool:
    """Whether a span without a parent of ours is written: as its caller was told, else by a draw."""
    return (now.sample >= 1 or _drawn(trace_id, now.sample)) if told is None else told


def span_around(around: Mapping[str, Any], current: Any, trace_id: bytes, parent_id: bytes | None) -> Span | None:
    """The span of ours around one that begins below ``current``, which a third party made: that very one, if we know it
    (see ``foreign``), else the innermost of ours. Only one of the same trace, and none that lies above records.

    ``parent_id``: ``current``'s span id, or ``None`` when it is of another process: its id may be known here all the
    same, when a message comes back to where it was sent.
    """
    found: Any = current if isinstance(current, Span) else getattr(current, "ours", None)  # a ``LightSpan``'s
    if found is None and parent_id is not None:
        found = runtime.open_spans.get(parent_id) or inherited.get(parent_id)
    if not _holds(found, trace_id):
        found = around.get(OWN_KEY)
        if isinstance(found, Unbegun):
            found = found.begin()
    return found if _holds(found, trace_id) else None


def _holds(found: Any, trace_id: bytes) -> bool:
    """Whether it is a span of this trace that what is called below it belongs to."""
    if not isinstance(found, Span) or found.start.trace_id != trace_id:
        return False
    return bool(found.start.record_id) or found.record_state.evaluation is not None


def recorded() -> bool:
    """Whether a recording is in force here, which keeps everything."""
    return bool(_active.get())


def _drawn(trace_id: bytes, share: float) -> bool:
    return int.from_bytes(trace_id[8:], "big") < share * 2**64
