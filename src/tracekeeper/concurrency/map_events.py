"""How a map waits for what happens, on a thread or on a loop, and who is told of outcomes as they come."""

from __future__ import annotations

import asyncio
import logging
import queue
import threading
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any

from tracekeeper.concurrency.mapping import Event
from tracekeeper.concurrency.outcome import Outcome
from tracekeeper.concurrency.progress import Progress
from tracekeeper.concurrency.shapes import is_awaitable
from tracekeeper.concurrency.waits import LOOK, get

logger = logging.getLogger("tracekeeper")


class AsyncEvents:
    """Events for a task: posted from anywhere, at most one wake-up of its loop under way."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.there: deque[Event] = deque()
        self._loop = loop
        self._wake = asyncio.Event()
        self._signalled = False
        self._looks = threading.current_thread() is threading.main_thread()

    def put(self, event: Event) -> None:
        self.there.append(event)
        if not self._signalled:
            self._signalled = True
            try:
                self._loop.call_soon_threadsafe(self._wake.set)
            except RuntimeError:
                logger.debug("tracekeeper: the loop of a map was closed before its last outcome came")

    async def come(self) -> None:
        # A signal that came as the loop went to sleep is seen when it wakes (see `waits.py`).
        look = self._loop.call_later(LOOK, self._wake.set) if self._looks else None
        await self._wake.wait()
        if look is not None:
            look.cancel()
        self._wake.clear()
        self._signalled = False  # before the caller looks: what is put from here on wakes it again


def waited_for(events: queue.SimpleQueue[Event]) -> Iterator[Event]:
    """Waits for one event and gives all that are there."""
    yield get(events)
    while True:
        try:
            yield events.get_nowait()
        except queue.Empty:
            return


class Told:
    """Who is told of outcomes as they come."""

    def __init__(self, on_result: Callable[[Outcome[Any]], object] | None, progress: Progress | None) -> None:
        self._on_result = on_result
        self._progress = progress
        self._failures = 0

    def sync(self, outcome: Outcome[Any]) -> None:
        if self._progress is not None:
            self._progress.add(outcome)
        if self._on_result is None:
            return
        try:
            result: Any = self._on_result(outcome)
            if is_awaitable(result):
                from tracekeeper.concurrency.bridges import run_sync

                run_sync(result)
        except Exception as error:  # noqa: BLE001  it is told about results; it does not decide about them
            self._failed(error)

    async def asynchronous(self, outcome: Outcome[Any]) -> None:
        if self._progress is not None:
            self._progress.add(outcome)
        if self._on_result is None:
            return
        try:
            result: Any = self._on_result(outcome)
            if is_awaitable(result):
                await result
        except Exception as error:  # noqa: BLE001
            self._failed(error)

    def _failed(self, error: Exception) -> None:
        self._failures += 1
        if self._failures == 1:
            logger.warning("tracekeeper: on_result of a map raised; the map goes on", exc_info=error)

    def close(self) -> None:
        if self._failures > 1:
            logger.warning("tracekeeper: on_result of a map raised %d times", self._failures)
        if self._progress is not None:
            self._progress.close()
