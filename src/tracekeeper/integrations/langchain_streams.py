"""The streams of LangChain's chains, watched: what came of them, and whether their consumer has gone.

LangChain says of a chain that is left that it has ended well (after it has read the model's answer to its end), and
tells no handler what came. Both are known to the generator that it makes for every streaming chain, so that one is
wrapped. Which run it belongs to is known to its own frame only.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Generator
from types import FrameType
from typing import Any

from tracekeeper.integrations.langchain_runs import Run
from tracekeeper.tracing import trouble


def watched(original: Callable[..., Any], instance: Any, args: Any, kwargs: Any) -> Any:
    """The wrapper of ``Runnable._transform_stream_with_config``, a generator function."""
    return _watched(original(*args, **kwargs))


def watched_async(original: Callable[..., Any], instance: Any, args: Any, kwargs: Any) -> Any:
    """The wrapper of ``Runnable._atransform_stream_with_config``, an async generator function."""
    return _watched_async(original(*args, **kwargs))


class _Watch:
    """What both ways share: the run that a generator belongs to, its pieces, and its consumer's leaving."""

    __slots__ = ("_inner", "_run")

    def __init__(self, inner: Any) -> None:
        self._inner = inner
        self._run: Run | None = None

    def piece(self, piece: Any) -> None:
        """One more piece of the result."""
        try:
            if self._run is None:  # once the generator has begun, its frame tells
                frame = getattr(self._inner, "gi_frame", None) or getattr(self._inner, "ag_frame", None)
                self._run = None if frame is None else _run_of(frame)
            if self._run is not None:
                self._run.piece(piece)
        except Exception as error:  # noqa: BLE001
            trouble.note("following a stream of LangChain", error)

    def left(self) -> None:
        """The consumer has gone."""
        if self._run is not None:
            self._run.left = True


def _watched(inner: Generator[Any, Any, Any]) -> Generator[Any, Any, Any]:
    watch = _Watch(inner)
    try:
        for piece in inner:
            watch.piece(piece)
            yield piece
    except GeneratorExit:
        watch.left()
        raise
    finally:
        inner.close()


async def _watched_async(inner: AsyncGenerator[Any, Any]) -> AsyncGenerator[Any, Any]:
    watch = _Watch(inner)
    try:
        async for piece in inner:
            watch.piece(piece)
            yield piece
    except GeneratorExit:
        watch.left()
        raise
    finally:
        await inner.aclose()


def _run_of(frame: FrameType) -> Run | None:
    run = getattr(frame.f_locals.get("run_manager"), "_tracekeeper_run", None)
    return run if isinstance(run, Run) else None
