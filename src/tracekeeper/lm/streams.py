"""What ``lm.stream`` and ``lm.astream`` give: iterators over pieces of text, with the whole answer at the end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Any

from tracekeeper.conventions.told import Told
from tracekeeper.lm.answer import Answer, Chunk
from tracekeeper.lm.feed import Feed
from tracekeeper.lm.spans import Call, Inside

_closing: set[asyncio.Task[None]] = set()


class _Stream:
    """What both share: it is closed once, and counted once, however it ends."""

    def __init__(self, feed: Feed, call: Call) -> None:
        self._feed = feed
        self._call = call
        self._over = [True]

    @property
    def answer(self) -> Answer:
        """The answer so far; whole once the stream has ended."""
        return self._feed.answer()

    def _count(self, *, failed: bool = False) -> bool:
        """Whether this is its end. Lock-free."""
        try:
            self._over.pop()
        except IndexError:
            return False
        self._call.count(self._call.inside.usage(self._feed.told().usage), failed=failed)
        return True

    def __del__(self) -> None:
        if getattr(self, "_over", None) and self._count():
            self._feed.engine.call_soon(_close_later, self._feed)


class LMStream(_Stream):
    """A streamed answer for a thread: ``for chunk in stream``; also ``with``, ``close()`` and ``answer``.

    Nothing is sent before the first step.
    """

    def __iter__(self) -> Iterator[Chunk]:
        return self

    def __next__(self) -> Chunk:
        try:
            chunk = self._feed.engine.run(self._feed.next(), self._call.context)
        except BaseException:
            self._count(failed=True)
            raise
        if chunk is None:
            self._count()
            raise StopIteration
        return chunk  # type: ignore[no-any-return]

    def close(self) -> None:
        """End it here; closes the connection."""
        if self._count():
            self._feed.engine.run(self._feed.close(), self._call.context)

    def __enter__(self) -> LMStream:
        return self

    def __exit__(self, *details: object) -> None:
        self.close()


class LMAsyncStream(_Stream):
    """The same for a task: ``async for chunk in stream``; also ``async with``, ``await aclose()`` and ``answer``."""

    def __aiter__(self) -> AsyncIterator[Chunk]:
        return self

    async def __anext__(self) -> Chunk:
        try:
            chunk = await self._feed.engine.arun(self._feed.next(), self._call.context)
        except BaseException:
            self._count(failed=True)
            raise
        if chunk is None:
            self._count()
            raise StopAsyncIteration
        return chunk  # type: ignore[no-any-return]

    async def aclose(self) -> None:
        """End it here; closes the connection."""
        if self._count():
            await self._feed.engine.arun(self._feed.close(), self._call.context)

    async def __aenter__(self) -> LMAsyncStream:
        return self

    async def __aexit__(self, *details: object) -> None:
        await self.aclose()


class FeedReader:
    """Reads our own chunks for the span (a ``tracing.responses.Reader``)."""

    counted = True
    """By the stream itself, whether or not it has a span."""

    def __init__(self, feed: Feed, inside: Inside) -> None:  # not the call: its context leads back to the span
        self._feed = feed
        self._inside = inside

    def read(self, chunk: Any) -> str | None:
        """The text in a chunk."""
        return chunk.text  # type: ignore[no-any-return]

    def told(self, text: str) -> Told:
        """What was said so far."""
        told = self._feed.told(text)
        told.usage = self._inside.usage(told.usage)
        return told


def _close_later(feed: Feed) -> None:
    task = asyncio.get_running_loop().create_task(feed.close())
    _closing.add(task)
    task.add_done_callback(_closing.discard)
