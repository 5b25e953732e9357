"""Spans of frameworks that tell by callbacks when a step of theirs begins and ends: a run.

A callback says nothing about where the step's own code runs, so a run is not always the current span while it is
open. What is common to all: a run's parent is what the framework says, unless the program has opened a span of its own
between the two; a run that calls a model marks the context, so that the client below it does not make a second span.
"""

from __future__ import annotations

from typing import Any

import opentelemetry.context as otel_context
from opentelemetry.context.context import Context

from tracekeeper.integrations.calls import Request, opened
from tracekeeper.tracing import opening, trouble
from tracekeeper.tracing.context import INSIDE, OWN_KEY, VAR, containing
from tracekeeper.tracing.spans import Span

_BEFORE = otel_context.create_key("tracekeeper-before-a-run")
"""In a context that a run has entered: the one that it found."""


def open_run(kind: str, request: Request, parent: Span | None = None) -> Span | None:
    """The span of a run, written and not current; ``None`` where there is to be none. Raises no ``Exception``.

    Parameters
    ----------
    parent:
        Of the run, as the framework says; ``None``: whatever is current.
    """
    try:
        now = opening.enabled()
        if now is None:
            return None
        here = VAR.get()
        around = _around(here, parent)
        if kind == "llm" and around.get(INSIDE):
            return None
        if around is here:
            return opened(now, kind, request)
        token = VAR.set(around)
        try:
            return opened(now, kind, request)
        finally:
            VAR.reset(token)
    except Exception as error:  # noqa: BLE001
        trouble.note("beginning the span of a framework's run", error)
        return None


def _around(here: Any, parent: Span | None) -> Any:
    """The context in which a run begins."""
    if parent is not None and here.get(OWN_KEY) is parent:
        return here
    around = here.get(_BEFORE, here)  # of a batch: a sibling is current here
    if parent is None or _below(around.get(OWN_KEY), parent):
        return around
    return containing(parent, around)


def _below(span: Any, ancestor: Span) -> bool:
    while type(span) is Span:
        if span is ancestor:
            return True
        span = span.parent
    return False


class Entered:
    """A context that a run has made current, to be left by whoever is still there.

    Not by a token: runs of one batch begin one after the other in one place and end in any order.
    """

    __slots__ = ("_before", "_entered")

    def __init__(self, span: Span, *, calls_a_model: bool = False) -> None:
        here = VAR.get()
        self._before = here.get(_BEFORE, here)
        entered = containing(span, self._before)
        if calls_a_model:
            entered = Context({**entered, INSIDE: True, _BEFORE: self._before})
        self._entered = entered
        VAR.set(entered)

    def leave(self) -> None:
        """It is no longer current here. May be called again, and where it never was."""
        if VAR.get() is self._entered:
            VAR.set(self._before)


def enter_for_good(span: Span) -> None:
    """Make it current in a context that is thrown away afterwards."""
    VAR.set(containing(span, VAR.get()))
