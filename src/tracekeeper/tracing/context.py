"""The current span, kept in OpenTelemetry's own context, so that ours and third-party spans nest both ways.

The public functions of opentelemetry-api cost about a microsecond more per call than the context variable below them,
so that variable is used directly. Its name is private: where it is missing (another version, another runtime context
configured by ``OTEL_PYTHON_CONTEXT``) ``PublicVariable`` offers the same three methods over the public functions.

Two keys are set together. ``KEY`` is OpenTelemetry's, and whoever makes a span replaces it. ``OWN_KEY`` is ours and
survives third-party spans in between: it leads to the innermost span of ours and so to the enclosing record.
"""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar
from typing import Any, Protocol

import opentelemetry.context as otel_context
from opentelemetry.context.context import Context
from opentelemetry.trace import INVALID_SPAN, set_span_in_context


class Variable(Protocol):
    """What is used of the context variable."""

    def get(self) -> Any: ...
    def set(self, context: Any, /) -> Any: ...
    def reset(self, token: Any, /) -> None: ...


class PublicVariable:
    """The current context through the public functions of opentelemetry-api only."""

    def get(self) -> Any:
        return otel_context.get_current()

    def set(self, context: Any, /) -> Any:
        before = otel_context.get_current()
        otel_context.attach(context)
        return before, context

    def reset(self, token: Any, /) -> None:
        # Not `detach`: it logs a traceback when the token is of another context. Raise instead, as the variable would.
        before, context = token
        if otel_context.get_current() is not context:
            raise ValueError("the context was entered elsewhere")
        otel_context.attach(before)

    def restore(self, token: Any, /) -> None:
        otel_context.attach(token[0])


def _find_variable() -> Variable:
    runtime = getattr(otel_context, "_RUNTIME_CONTEXT", None)
    variable = getattr(runtime, "_current_context", None)
    if type(variable) is ContextVar and isinstance(variable.get(), Context):
        return variable
    return PublicVariable()


VAR: Variable = _find_variable()
restore: Callable[[Any], None] = VAR.restore if isinstance(VAR, PublicVariable) else VAR.reset
"""``VAR.reset`` for whoever is certain to be where the token was made: in the same frame, one step later."""

KEY: str = next(iter(set_span_in_context(INVALID_SPAN, Context())))
OWN_KEY: str = otel_context.create_key("tracekeeper-span")
INSIDE: str = otel_context.create_key("tracekeeper-inside-a-client")
"""Set in the context while a model client's function runs, whose span is there already: clients below it make none."""


def containing(span: Any, around: Any) -> Context:
    """A copy of the context ``around`` in which ``span`` is the current one."""
    return Context({**around, KEY: span, OWN_KEY: span})


def leave(token: Any, entered: Any) -> None:
    """Undo ``VAR.set(entered)``. Never raises.

    The token fits where the context was entered. Somewhere else (a generator closed by another thread or task) the
    variable is left alone unless the very context that was entered is still in force there.
    """
    try:
        VAR.reset(token)
    except (ValueError, RuntimeError):
        if VAR.get() is entered:
            before = token[0] if isinstance(token, tuple) else token.old_value
            VAR.set(before if isinstance(before, Context) else Context())
