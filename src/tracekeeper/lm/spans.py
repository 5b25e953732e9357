"""One ``llm`` span for each call of a model: what it says at the beginning, and at the end.

While a call is under way, clients below it make no span: two would count every token twice. A program's own function
that asks other models is one call: what those report is its usage, unless it reports its own.
"""

from __future__ import annotations

import contextvars
from typing import Any

from opentelemetry.context.context import Context

from tracekeeper.conventions.asked import request_attributes
from tracekeeper.lm.asking import Reply, added
from tracekeeper.lm.prompt import Prompt
from tracekeeper.lm.source import Source
from tracekeeper.tracing import tracking, trouble
from tracekeeper.tracing.block import start_span
from tracekeeper.tracing.context import INSIDE, VAR, containing
from tracekeeper.tracing.spans import INERT, InertSpan, Span
from tracekeeper.types import Usage


class Inside:
    """Stands in the context for a call that is under way."""

    __slots__ = ("usages",)

    def __init__(self) -> None:
        self.usages: list[Usage | None] = []
        """Of the models that a function asks."""

    def usage(self, own: Usage | None) -> Usage | None:
        """What the call took: what it reported itself, else all of those together."""
        if own is not None or not self.usages:
            return own
        total = self.usages[0]
        for usage in self.usages[1:]:
            total = added(total, usage)
        return total


class Call:
    """A call of a model that began: its span, and the context in which it runs."""

    __slots__ = ("_model", "_trackers", "above", "context", "inside", "span")

    def __init__(self, source: Source, prompt: Prompt, *, stream: bool = False) -> None:
        around = VAR.get()
        self.above = around.get(INSIDE)
        self.inside = Inside()
        self._model, self._trackers = source.name, tracking.active()
        self.span: Span | InertSpan = INERT
        if not self.above:
            self.span = _begin(source, prompt, stream)
        held = containing(self.span, around) if isinstance(self.span, Span) else Context(around)
        held = Context({**held, INSIDE: self.inside})
        self.context = contextvars.copy_context()
        self.context.run(VAR.set, held)

    def count(self, usage: Usage | None, *, cached: bool = False, failed: bool = False) -> None:
        """Count it, once: at the outermost call. Lock-free."""
        if isinstance(self.above, Inside):
            if not cached:
                self.above.usages.append(usage)
        elif not self.above:
            tracking.count(self._trackers, self._model, usage, cached=cached, failed=failed)

    def failed(self, error: BaseException) -> None:
        """It raised."""
        usage = self.inside.usage(getattr(error, "usage", None))
        if isinstance(self.span, Span):
            if usage is not None:
                self.span.set(usage=usage)
            self.span.fail(error)
        self.count(usage, failed=True)

    def done(self, reply: Reply, usage: Usage | None) -> None:
        """It returned."""
        span, told = self.span, reply.told
        if isinstance(span, Span):
            try:
                span.set(usage=usage, model=told.model, **told.attributes, **_how(reply))
                span.take_output(told.output)
            except Exception as error:  # noqa: BLE001
                trouble.note("reading a model's answer", error)
            span.end()
        self.count(usage, cached=reply.answer.cached)


def _begin(source: Source, prompt: Prompt, stream: bool) -> Span | InertSpan:
    try:
        provider = source.adapter.provider
        options = {**source.options, **prompt.options, "tools": prompt.tools, **({"stream": True} if stream else {})}
        attributes = request_attributes("chat", provider, source.model, options)
        span = start_span(f"chat {source.model}", "llm", input=prompt.shown(), **attributes)
        span.set(model=source.model, provider=provider)
        return span
    except Exception as error:  # noqa: BLE001
        trouble.note("beginning the span of a model's call", error)
        return INERT


def _how(reply: Reply) -> dict[str, Any]:
    """What is said only where it is out of the ordinary."""
    said: dict[str, Any] = {}
    if reply.answer.attempts > 1:
        said["tracekeeper.lm.attempts"] = reply.answer.attempts
    if reply.answer.cached:
        said["tracekeeper.lm.cached"] = True
    return said
