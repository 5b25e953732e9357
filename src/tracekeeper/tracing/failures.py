"""Exceptions as they are kept: type, message and traceback. Total, whatever an exception's ``__str__`` does."""

from __future__ import annotations

import os
import traceback
from types import TracebackType

from tracekeeper.journal.frames import ErrorInfo
from tracekeeper.tracing import capture
from tracekeeper.types import SpanStatus

_HERE = os.path.dirname(os.path.abspath(__file__)) + os.sep
_MESSAGE = 16_384
_TRACEBACK = 65_536
_FRAMES = 50
_CANCELLED = frozenset({"Cancelled", "CancelledError"})


def status_of(error: BaseException) -> SpanStatus:
    """How a call ends that ends by this exception."""
    kinds = type(error).__mro__  # not isinstance(), which asks the exception's own `__class__`
    if GeneratorExit in kinds:
        return SpanStatus.ABANDONED
    # By name: asyncio's, trio's and the one of concurrent.futures, none of which need be imported (and while another
    # thread imports a module, it is there without its names).
    return SpanStatus.CANCELLED if any(kind.__name__ in _CANCELLED for kind in kinds) else SpanStatus.ERROR


def info(error: BaseException) -> ErrorInfo:
    """What is kept of an exception. Never raises (but lets Ctrl-C through)."""
    return ErrorInfo(type=type_name(type(error)), message=_message(error), traceback=_traceback(error))


def text_of(error: BaseException) -> str:
    """``ValueError: no such city``: type and message. Never raises (but lets Ctrl-C through)."""
    return f"{type_name(type(error))}: {_message(error)}".removesuffix(": ")


def type_name(kind: type) -> str:
    """``ValueError``, ``httpx.ReadTimeout``: the qualified name, without ``builtins``."""
    module = kind.__module__
    name = kind.__qualname__
    return capture.text(name if module in ("builtins", "__main__") else f"{module}.{name}")


def _message(error: BaseException) -> str:
    try:
        message = str(error)
    except KeyboardInterrupt:
        raise
    except BaseException as failure:  # noqa: BLE001
        message = f"<str() failed: {type(failure).__name__}>"
    if len(message) > _MESSAGE:
        message = f"{message[:_MESSAGE]}… [cut: {len(message)} characters]"
    return capture.text(message)


def _traceback(error: BaseException) -> str:
    try:
        outside = _without_ours(error.__traceback__)
        if outside is None:  # raised by the call itself: wrong arguments
            outside = error.__traceback__
        # Negative: the frames nearest to the failure. A RecursionError has a thousand.
        shown = "".join(_formatted(error, _nearest(outside)))
    except KeyboardInterrupt:
        raise
    except BaseException as failure:  # noqa: BLE001
        return f"<no traceback: {type(failure).__name__}>"
    if len(shown) > _TRACEBACK:
        shown = f"… [cut: {len(shown)} characters]\n{shown[-_TRACEBACK:]}"
    return capture.text(shown)


def _formatted(error: BaseException, frames: TracebackType | None) -> list[str]:
    try:
        return traceback.format_exception(type(error), error, frames, limit=-_FRAMES)
    except SystemError:
        # python/cpython#106905, until 3.11.7: the carets below a line are found by parsing it, and two threads at it at
        # once disturb each other. Without positions there are no carets.
        stack = traceback.StackSummary.extract(traceback.walk_tb(frames), limit=-_FRAMES)
        lines = ["Traceback (most recent call last):\n", *stack.format()]
        return [*lines, *traceback.format_exception_only(type(error), error)]


def _nearest(frames: TracebackType | None) -> TracebackType | None:
    """The traceback's last frames, found by following its links: `traceback` looks closely at each that it leaves out,
    once more in every span that the exception passes."""
    ahead = frames
    for _ in range(_FRAMES):
        ahead = ahead.tb_next if ahead is not None else None
    while ahead is not None and frames is not None:
        ahead, frames = ahead.tb_next, frames.tb_next
    return frames


def _without_ours(frames: TracebackType | None) -> TracebackType | None:
    """The traceback from the first frame that is not of the tracing itself."""
    while frames is not None and frames.tb_frame.f_code.co_filename.startswith(_HERE):
        frames = frames.tb_next
    return frames
