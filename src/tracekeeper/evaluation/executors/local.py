"""Calls in this process: sync ones on daemon threads, async ones on an event loop in a daemon thread of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from tracekeeper.concurrency.mapping import Call, Event, Map, MapRunner
from tracekeeper.concurrency.maps import Parallel
from tracekeeper.evaluation.executors.executor import Told


class LocalExecutor(Parallel):
    """A map (``tk.Parallel``) that can be stopped."""

    def __init__(self, *, concurrency: int, timeout: float | None, retries: int) -> None:
        super().__init__(concurrency=concurrency, timeout=timeout, retries=retries)
        self._state: Map | None = None
        self.hold: Callable[[], bool] | None = None
        """See ``Paced``."""

    def run(self, calls: Iterator[Call], total: int, told: Told) -> None:
        """See ``Executor``."""
        self.on_result = told
        try:
            self._run(calls, total)
        finally:
            self.on_result = None

    async def arun(self, calls: Iterator[Call], total: int, told: Told) -> None:
        """See ``Executor``."""
        self.on_result = told
        try:
            await self._arun(calls, total)
        finally:
            self.on_result = None

    def stop(self, reason: str) -> None:
        """See ``Executor``."""
        if self._state is not None:
            self._state.stop(reason)

    def look(self) -> None:
        """See ``Paced``."""
        if self._state is not None:
            self._state.look()

    @property
    def interrupted(self) -> bool:
        """See ``Executor``."""
        return self._state is not None and self._state.interrupted

    def _map(
        self, calls: Iterator[Call], total: int | None, post: Callable[[Event], Any], runner: MapRunner | None = None
    ) -> Map:
        self._state = super()._map(calls, total, post, runner)
        self._state.hold = self.hold
        self._state.keeps = False  # a run makes a result of each and lets go of it
        return self._state
