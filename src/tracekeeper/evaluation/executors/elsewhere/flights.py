"""One attempt of a call on a worker, and a worker with the attempts that are on it, as home sees them.

What becomes of them ``places`` decides; a flight is awaited on the loop of its call, and hears from any thread.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections.abc import Callable
from typing import Any

from tracekeeper.evaluation.executors.elsewhere.engine import Hosted
from tracekeeper.evaluation.executors.elsewhere.messages import Order
from tracekeeper.tracing.elsewhere import Arriving
from tracekeeper.tracing.state import RecordState

log = logging.getLogger("tracekeeper")

_numbers = itertools.count(1)


class Flight:
    """One attempt of a call on a worker, as home sees it. Made on the loop where it is awaited."""

    def __init__(self, *, alone: bool) -> None:
        self.number = next(_numbers)
        self.alone = alone
        self.place: Place | None = None
        self.state: RecordState | None = None
        self.sent = False
        self.over = False
        self.overdue_at: float | None = None
        self._loop = asyncio.get_running_loop()
        self._inbox: asyncio.Queue[Any] = asyncio.Queue()

    def hear(self, message: Any) -> None:
        """From any thread."""
        try:
            self._loop.call_soon_threadsafe(self._inbox.put_nowait, message)
        except RuntimeError:
            log.debug("tracekeeper: a loop was closed before its call's outcome came")

    def later(self, do: Callable[[], object]) -> None:
        """On its loop, when what is ready there has had its turn. Called there."""
        self._loop.call_soon(do)

    async def heard(self) -> Any:
        """The next message."""
        return await self._inbox.get()


class Place:
    """A worker, and the flights on it."""

    def __init__(self, hosted: Hosted, arriving: Arriving) -> None:
        self.hosted = hosted
        self.arriving = arriving
        self.flights: dict[int, Flight] = {}
        self.unsent: dict[int, Order] = {}
        """Orders that go with the next message: what is asked for in one turn of a loop goes together."""
        self.ready = False
        self.retiring = False
        self.heard_at = 0.0
        self.where = ""

    @property
    def alone(self) -> bool:
        """Whether what it does is to be alone."""
        return any(flight.alone for flight in self.flights.values())


class Stopped(Exception):
    """No call begins any more."""
