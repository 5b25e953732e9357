"""Tracing: spans in OpenTelemetry's interface and context, the decorator, streams, and the keeper they are written to.

A call's way: ``decorator`` wraps, ``plan`` and ``opening`` begin the span, ``results`` and ``streams`` see to its end,
``spans`` writes it through the ``runtime``'s keeper into the journal. Values are encoded by ``capture``.
"""

from tracekeeper.tracing.block import span, start_span
from tracekeeper.tracing.decorator import trace
from tracekeeper.tracing.spans import Span, current_span

__all__ = ["Span", "current_span", "span", "start_span", "trace"]
