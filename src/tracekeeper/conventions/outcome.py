"""How a stream of a third party ended, where its attributes tell more than its status.

Measured with streams that their consumer left, or that were cancelled (OpenInference 0.1.66, OpenLLMetry 0.62.4): no
convention has a word for it. OpenInference leaves the status unset, which it never does after a whole answer; a
cancelled one has the status ``error`` and an exception whose name says it. OpenLLMetry says ``ok`` with an empty finish
reason, or with none. So an empty reason is a stream that was not read to its end; that there is none says so only of an
instrumentation that is known to name one. Where the status says that a stream was read to its end, and no reason came,
it was the provider who ended it.
"""

from __future__ import annotations

from collections.abc import Sequence

from tracekeeper.types import SpanKind, SpanStatus

_CANCELLED = ("CancelledError", "Cancelled")
_LEFT = ("GeneratorExit",)
_SAYS_OK_WHEN_WHOLE = "openinference."
_NAMES_A_REASON_OF_STREAMS = frozenset({"openinference.instrumentation.openai"})
_NAMES_A_REASON_WHEN_WHOLE = "opentelemetry.instrumentation."
"""Beginnings of the names of instrumentation scopes."""


def told(
    *,
    kind: SpanKind | None,
    scope: str,
    status: str,
    streamed: bool,
    finish: Sequence[str],
    error: str | None,
) -> SpanStatus | None:
    """``cancelled``, ``abandoned`` or ``truncated`` where that is what happened; ``None``: as it was told.

    Parameters
    ----------
    status:
        ``unset``, ``ok`` or ``error``.
    finish:
        The finish reasons as they were told, empty ones included.
    error:
        Type of the exception, if any.

    Example
    -------
    >>> told(kind=SpanKind.LLM, scope="", status="ok", streamed=True, finish=("",), error=None).value
    'abandoned'
    """
    name = (error or "").rpartition(".")[2]
    if name in _CANCELLED:
        return SpanStatus.CANCELLED
    if name in _LEFT:
        return SpanStatus.ABANDONED
    if status == "error" or error is not None or kind is not SpanKind.LLM:
        return None
    if scope.startswith(_SAYS_OK_WHEN_WHOLE):
        if status == "unset":
            return SpanStatus.ABANDONED
        cut = streamed and not any(finish) and scope in _NAMES_A_REASON_OF_STREAMS
        return SpanStatus.TRUNCATED if cut else None
    left = not any(finish) and (bool(finish) or (streamed and scope.startswith(_NAMES_A_REASON_WHEN_WHOLE)))
    return SpanStatus.ABANDONED if left else None
