"""Exceptions as they are kept: type, message and traceback. Total, whatever an exception's ``__str__`` does."""

from __future__ import annotations

import os
import sys
import traceback
from types import TracebackType

from tracekeeper.journal.frames import ErrorInfo
from tracekeeper.tracing import capture
from tracekeeper.types import SpanStatus

_HERE = os.path.dirname(os.path.abspath(__file__)) + os.sep
_MESSAGE = 16_384
_TRACEBACK = 65_536
_FRAMES = 50


def status_of(error: BaseException) -> SpanStatus:
    """How a call ends that ends by this exception."""
    if isinstance(error, GeneratorExit):
        return SpanStatus.ABANDONED
    asyncio = sys.modules.get("asyncio")
    if asyncio is not None and isinstance(error, asyncio.CancelledError):
        return SpanStatus.CANCELLED
    name = type(error).__name__  # trio's, and the one of concurrent.futures
    return SpanStatus.CANCELLED if name in ("Cancelled", "CancelledError") else SpanStatus.ERROR


def info(error: BaseException) -> ErrorInfo:
    """What is kept of an exception. Never raises (but lets Ctrl-C through)."""
    return ErrorInfo(type=type_name(type(error)), message=_message(error), traceback=_traceback(error))


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
        shown = "".join(traceback.format_exception(type(error), error, outside, limit=-_FRAMES))
    except KeyboardInterrupt:
        raise
    except BaseException as failure:  # noqa: BLE001
        return f"<no traceback: {type(failure).__name__}>"
    if len(shown) > _TRACEBACK:
        shown = f"… [cut: {len(shown)} characters]\n{shown[-_TRACEBACK:]}"
    return capture.text(shown)


def _without_ours(frames: TracebackType | None) -> TracebackType | None:
    """The traceback from the first frame that is not of the tracing itself."""
    while frames is not None and frames.tb_frame.f_code.co_filename.startswith(_HERE):
        frames = frames.tb_next
    return frames
