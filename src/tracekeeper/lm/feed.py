"""A streamed answer as it comes: one request after another until a model begins to answer, then its events.

All of it runs on an engine's loop. ``told`` may be called from anywhere, finalisers too.
"""

from __future__ import annotations

import asyncio
import gc
import logging
from collections.abc import Sequence
from types import AsyncGeneratorType
from typing import Any

import msgspec

from tracekeeper.concurrency.limits import Place
from tracekeeper.conventions.told import Told
from tracekeeper.lm.answer import Answer, Chunk, answered
from tracekeeper.lm.asking import caused, on, together
from tracekeeper.lm.prompt import Prompt
from tracekeeper.lm.source import Source, give_back
from tracekeeper.lm.timeouts import Deadlines
from tracekeeper.tracing.responses import Reader
from tracekeeper.types import LMError

_log = logging.getLogger("tracekeeper")
_END = object()


class Feed:
    """One stream."""

    def __init__(self, sources: Sequence[Source], prompt: Prompt) -> None:
        self._sources = sources
        self._prompt = prompt
        self._steps: Any = None
        self._stream: Any = None
        self._inner: Any = None
        """What the library's stream reads from, where it tells: a word of its own, ``_iterator``."""
        self._within: list[AsyncGeneratorType[Any, Any]] = []
        """The generators that the library reads through, from the outer one on."""
        self._ahead: Any = None
        self._place: Place | None = None
        self._deadlines: Deadlines | None = None
        self._reader: Reader | None = None
        self._texts: list[str] = []
        self._ended = False
        self.source = sources[0]
        self.attempts = 0

    @property
    def engine(self) -> Any:
        """Whose loop it is on: that of the model that answers."""
        return self.source.adapter.engine

    async def next(self) -> Chunk | None:
        """The next piece of text; ``None`` at the end."""
        if self._ended:
            return None
        if self._steps is None:
            await self._open()
        try:
            while True:
                event = await self._event()
                if event is _END:
                    await self._end()
                    return None
                assert self._reader is not None
                text = self._reader.read(event)
                if text:
                    self._texts.append(text)
                    return Chunk(text)
        except Exception as error:
            await self._end(error)
            raise caused(self.source, error) from error
        except BaseException as error:
            await self._end(error)
            raise

    async def close(self) -> None:
        """The consumer goes."""
        if not self._ended:
            await self._end(GeneratorExit())

    def told(self, text: str | None = None) -> Told:
        """What was said so far."""
        if self._reader is None:
            return Told()
        told = self._reader.told("".join(self._texts) if text is None else text)
        usage = self.source.usage(told)
        return msgspec.structs.replace(told, usage=usage)

    def answer(self) -> Answer:
        """The answer so far; whole once the stream has ended."""
        told, text = self.told(), "".join(self._texts)
        return msgspec.structs.replace(answered(told, told.usage, text), attempts=max(1, self.attempts))

    async def _event(self) -> Any:
        if self._ahead is not None:
            event, self._ahead = self._ahead, None
            return event
        assert self._deadlines is not None
        return await self._deadlines.next(anext(self._steps, _END))

    async def _open(self) -> None:
        failures: list[LMError] = []
        for source in self._sources:
            self.source = source
            try:
                await on(source.adapter.engine, source.retry.acall(self._begin))
                return
            except Exception as error:  # noqa: BLE001  the next model is asked; all errors are raised if none answers
                failures.append(caused(source, error))
        self._ended = True
        raise together(failures)

    async def _begin(self) -> None:
        source = self.source
        options = source.prepare(self._prompt)
        place = await source.place(self._prompt)
        self.attempts += 1
        deadlines = Deadlines(source.timeouts, source.name)
        try:
            await deadlines.first(self._first(options))
        except BaseException as error:
            give_back(place, error)
            await self._let_go()
            raise
        self._place, self._deadlines, self._reader = place, deadlines, source.adapter.reader()

    async def _first(self, options: dict[str, Any]) -> None:
        adapter = self.source.adapter
        self._stream = await adapter.stream(options, self.source.timeouts)
        self._inner = getattr(self._stream, "_iterator", None)
        steps = aiter(self._stream)
        self._ahead = await anext(steps, _END)
        self._within = _generators_in(steps, self._inner)
        self._steps = steps

    async def _end(self, error: BaseException | None = None) -> None:
        self._ended = True
        give_back(self._place, error, self.source.usage(self.told()))
        await self._let_go()

    async def _let_go(self) -> None:
        """Close the library's stream, and with it the connection; its own errors matter to nobody here.

        The generators inside go first, from the outer one on. The libraries' streams and their generators hold each
        other; left to the collector they would be closed from whichever thread it runs in, while this loop is at it.
        """
        stream, steps, self._stream, self._steps = self._stream, self._steps, None, None
        inner, within, self._inner, self._within = self._inner, self._within, None, []
        for part in (steps, inner, *within, stream):
            close = getattr(part, "aclose", None) or getattr(part, "close", None)
            if close is None:
                continue
            try:
                closing = close()
                if hasattr(closing, "__await__"):
                    await asyncio.shield(asyncio.ensure_future(_wait(closing)))
            except Exception as error:  # noqa: BLE001
                _log.debug("tracekeeper: closing a stream of %s: %r", self.source.name, error)


def _generators_in(*outer: Any) -> list[AsyncGeneratorType[Any, Any]]:
    """The generators that others read from, from the outer one on: a suspended generator refers to what it reads."""
    found: dict[AsyncGeneratorType[Any, Any], None] = {}
    todo = [each for each in outer if isinstance(each, AsyncGeneratorType)]
    while todo:
        read = [each for each in gc.get_referents(todo.pop(0)) if isinstance(each, AsyncGeneratorType)]
        todo += [each for each in read if each not in found]
        found.update(dict.fromkeys(read))
    return list(found)


async def _wait(closing: Any) -> None:
    await closing
