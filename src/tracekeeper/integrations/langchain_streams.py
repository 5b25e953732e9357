"""The streams of LangChain's chains, watched: what came of them, and whether their consumer has gone.

LangChain says of a chain that is left that it has ended well (after it has read the model's answer to its end), and
tells no handler what came. Both are known to the generator that it makes for every streaming chain, so that one is
wrapped. Which run it belongs to is known to its own frame only.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Generator
from typing import Any

from tracekeeper.integrations.langchain_runs import Run
from tracekeeper.tracing import trouble


def watched(original: Callable[..., Any], instance: Any, args: Any, kwargs: Any) -> Any:
    """The wrapper of ``Runnable._transform_stream_with_config``, a generator function."""
    return _watched(original(*args, **kwargs))


def watched_async(original: Callable[..., Any], instance: Any, args: Any, kwargs: Any) -> Any:
    """The wrapper of ``Runnable._atransform_stream_with_config``, an async generator function."""
    return _watched_async(original(*args, **kwargs))


def _watched(inner: Generator[Any, Any, Any]) -> Generator[Any, Any, Any]:
    run: Run | None = None
    try:
        for piece in inner:
            run = run or _run_of(getattr(inner, "gi_frame", None))
            _take(run, piece)
            yield piece
    except GeneratorExit:
        if run is not None:
            run.left = True
        raise
    finally:
        inner.close()


async def _watched_async(inner: AsyncGenerator[Any, Any]) -> AsyncGenerator[Any, Any]:
    run: Run | None = None
    try:
        async for piece in inner:
            run = run or _run_of(getattr(inner, "ag_frame", None))
            _take(run, piece)
            yield piece
    except GeneratorExit:
        if run is not None:
            run.left = True
        raise
    finally:
        await inner.aclose()


def _run_of(frame: Any) -> Run | None:
    try:
        return getattr(frame.f_locals.get("run_manager"), "_tracekeeper_run", None)
    except Exception as error:  # noqa: BLE001
        trouble.note("following a stream of LangChain", error)
        return None


def _take(run: Run | None, piece: Any) -> None:
    if run is None:
        return
    try:
        run.piece(piece)
    except Exception as error:  # noqa: BLE001
        trouble.note("reading a piece of a chain's stream", error)
