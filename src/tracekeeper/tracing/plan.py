"""How one callable is traced: read once when it is decorated, used at every call."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from tracekeeper.tracing import arguments, capture, opening, trouble
from tracekeeper.tracing.context import VAR, containing
from tracekeeper.tracing.masking import Mask
from tracekeeper.tracing.spans import Span
from tracekeeper.tracing.state import AppLink
from tracekeeper.types import SpanStatus

_enabled = opening.enabled
open_span, announce, takes_payload = opening.open_span, opening.announce, opening.takes_payload
_encode = capture.encoded


class Plan:
    """Name, kind and options of a traced callable. Pickled by value as what it was made of."""

    def __init__(
        self,
        function: Callable[..., Any],
        *,
        name: str | None = None,
        kind: str | None = None,
        capture_input: bool = True,
        capture_output: bool = True,
        mask: Mask | None = None,
        app: AppLink | None = None,
    ) -> None:
        self.function = function
        self.given: dict[str, Any] = {
            "name": name,
            "kind": kind,
            "capture_input": capture_input,
            "capture_output": capture_output,
            "mask": mask,
            "app": app,
        }
        self.simple_name, self.qualified_name = names_of(function)
        shown = name or (app.name if app is not None else None) or self.qualified_name.rpartition("<locals>.")[2]
        self.name = capture.text(str(shown))
        self.kind = capture.text(str(kind or "task"))
        self.capture_input = capture_input
        self.capture_output = capture_output
        self.mask = mask
        self.app = app
        self.bind = arguments.binder(function)
        self.shell: Any = None
        self._introduced: tuple[Any, Any] = (None, None)

    def begin(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Span | None:
        """A span of this call, written and current; ``None`` when tracing is off or fails. Raises no ``Exception``."""
        span = around = None
        try:
            now = _enabled()
            if now is None:
                return None
            app = self.app
            span = open_span(now, self.name, self.kind, app, self.mask)
            if not (self.capture_output and now.capture_output):
                span.takes_output = False
            app = span.app  # none inside an evaluation, where nothing is a record
            if app is not None:
                self._introduce(app, span)
                if app.needs_live:
                    span.record_state.live_input = self.bind(args, kwargs)
            if self.capture_input and now.capture_input and takes_payload(span):
                start = span.start
                start.input, start.input_size = _encode(
                    self.bind(args, kwargs), now.capture_limit, now.mask_keys, span.mask
                )
            announce(span)
            around = VAR.get()
            try:
                entered = span.entered = containing(span, around)
                span.token = VAR.set(entered)
            except Exception as error:  # noqa: BLE001  at the very end of the stack
                trouble.note("entering a span", error)
        except BaseException as error:
            if span is not None and hasattr(span, "record_state"):
                if span.entered is not None and VAR.get() is span.entered:
                    VAR.set(around)  # the call is not made, and what comes later is not below it
                span.token = span.entered = None
                span.close(SpanStatus.INTERRUPTED)
            if not isinstance(error, Exception):  # Ctrl-C is the program's
                raise
            trouble.note("beginning a span", error)
            return None
        return span

    def open(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Span | None:
        """The same without making it current: of a stream, whose consumer is not below it."""
        span = self.begin(args, kwargs)
        if span is not None:
            opening.leave(span)
        return span

    def _introduce(self, app: AppLink, span: Span) -> None:
        definitions = app.definitions()
        # The keeper writes each definition once per journal; this spares it the asking.
        said = self._introduced
        if said[0] is not span.keeper or said[1] is not definitions:
            for definition in definitions:
                span.keeper.define(definition)
            self._introduced = (span.keeper, definitions)

    def __reduce__(self) -> Any:
        return _made_again, (self.function, self.given)


def _made_again(function: Callable[..., Any], given: dict[str, Any]) -> Plan:
    return Plan(function, **given)


def names_of(function: Any) -> tuple[str, str]:
    """Name and qualified name of any callable."""
    while isinstance(function, functools.partial):
        function = function.func
    name = getattr(function, "__name__", None)
    if not isinstance(name, str):
        kind = type(function)
        return kind.__name__, kind.__qualname__
    qualified = getattr(function, "__qualname__", None)
    return name, qualified if isinstance(qualified, str) else name
