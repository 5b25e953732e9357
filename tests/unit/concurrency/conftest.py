"""A runner per test, and a collector of outcomes that knows when there are enough."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from tracekeeper.concurrency import Outcome, Runner


class Outcomes:
    """Gives out `done` callbacks and waits for what they get."""

    def __init__(self) -> None:
        self._queue: queue.SimpleQueue[tuple[Any, Outcome[Any]]] = queue.SimpleQueue()
        self.threads: list[threading.Thread] = []

    def done(self, key: Any) -> Any:
        def collect(outcome: Outcome[Any]) -> None:
            self.threads.append(threading.current_thread())
            self._queue.put((key, outcome))

        return collect

    def take(self, count: int, timeout: float = 20.0) -> dict[Any, Outcome[Any]]:
        taken: dict[Any, Outcome[Any]] = {}
        for _ in range(count):
            key, outcome = self._queue.get(timeout=timeout)
            assert key not in taken, f"{key} was settled twice"
            taken[key] = outcome
        return taken

    def one(self, timeout: float = 20.0) -> Outcome[Any]:
        return self._queue.get(timeout=timeout)[1]

    def nothing_more(self) -> bool:
        return self._queue.empty()


@pytest.fixture
def outcomes() -> Outcomes:
    return Outcomes()


@pytest.fixture
def runner() -> Iterator[Runner]:
    made = Runner(name="test", concurrency=8)
    yield made
    made.close()
