"""``tk.span``: a block of code as a span, and spans begun by hand."""

from __future__ import annotations

from types import TracebackType
from typing import Any

from tracekeeper.tracing import capture, opening, trouble
from tracekeeper.tracing.masking import Mask
from tracekeeper.tracing.spans import INERT, InertSpan, Span, current_span


class span:
    """Trace a block: ``with tk.span("rerank", kind="reranker") as span: span.set(output=…)``; or ``async with``.

    Inside, it is the current span. An exception ends it with that error and passes. One object may be entered again and
    by several threads or tasks at once: each time it is another span.

    Parameters
    ----------
    name:
        Name of the span.
    kind:
        One of ``SpanKind``.
    input:
        Any value; encoded at once.
    attributes:
        Anything else that is known now.

    Example
    -------
    >>> with span("rerank", kind="reranker", input=["a", "b"], top=1) as current:
    ...     _ = current.set(output=["b"])
    """

    __slots__ = ("_attributes", "_input", "_kind", "_mask", "_name", "_open")

    def __init__(
        self, name: str, kind: str = "task", *, input: Any = ..., mask: Mask | None = None, **attributes: Any
    ) -> None:
        self._name = name
        self._kind = kind
        self._input = input
        self._mask = mask
        self._attributes = attributes
        self._open: list[Span | InertSpan] = []

    def __enter__(self) -> Span | InertSpan:
        begun = start_span(self._name, self._kind, input=self._input, mask=self._mask, **self._attributes)
        if isinstance(begun, Span):
            opening.enter(begun)
        self._open.append(begun)
        return begun

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        begun = self._take()
        if not isinstance(begun, Span):
            return
        opening.leave(begun)
        if error is None:
            begun.end()
        else:
            begun.fail(error)

    async def __aenter__(self) -> Span | InertSpan:
        return self.__enter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.__exit__(kind, error, traceback)

    def _take(self) -> Span | InertSpan:
        # Entered by several tasks at once, the last one may be another task's: the one that is current here is ours.
        here = current_span()
        for position in range(len(self._open) - 1, -1, -1):
            if self._open[position] is here:
                return self._open.pop(position)
        return self._open.pop() if self._open else INERT


def start_span(
    name: str, kind: str = "task", *, input: Any = ..., mask: Mask | None = None, **attributes: Any
) -> Span | InertSpan:
    """A span that began, below the current one, and is not made current; its maker ends it. Raises no ``Exception``."""
    try:
        now = opening.enabled()
        if now is None:
            return INERT
        begun = opening.open_span(now, capture.text(str(name)), capture.text(str(kind)), None, mask)
        if not now.capture_output:
            begun.takes_output = False
        if input is not ... and now.capture_input and opening.takes_payload(begun):
            begun.start.input, begun.start.input_size = begun.encode(input)
        if attributes:
            begun.begin_with(attributes)
        opening.announce(begun)
    except Exception as error:  # noqa: BLE001
        trouble.note("beginning a span", error)
        return INERT
    return begun
