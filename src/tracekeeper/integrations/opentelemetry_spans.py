"""The spans of other OpenTelemetry instrumentation, by the bridge (:mod:`tracekeeper.tracing.bridge`)."""

from __future__ import annotations

from collections.abc import Callable

from tracekeeper.tracing import bridge


def install() -> Callable[[], None]:
    """Take third parties' spans into the journal, whichever provider they come from; returns what undoes it."""
    bridge.join()
    return bridge.leave
