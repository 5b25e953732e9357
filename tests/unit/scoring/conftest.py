"""An engine on a keeper of memory: what it writes and what it tells can be looked at, nothing touches a disk."""

from __future__ import annotations

import itertools
import queue
import threading
import time
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import orjson
import pytest

from tracekeeper.journal.frames import Frame, ScoreFrame, SpanEnd, SpanStart, encode
from tracekeeper.judging import Metric
from tracekeeper.scoring.engine import Engine
from tracekeeper.tracing.state import RecordState
from tracekeeper.types import Score

_numbers = itertools.count(1)


class MemoryKeeper:
    """Keeps frames in a list; every one must encode, as in the journal."""

    journal = None

    def __init__(self) -> None:
        self.frames: list[Frame] = []

    def write(self, frame: Frame) -> bool:
        encode(frame)
        self.frames.append(frame)
        return True

    def define(self, definition: Any) -> None:
        self.write(definition)

    def ship(self, timeout: float | None = None) -> str | None:
        return None

    def store(self) -> Any:
        return SimpleNamespace(spans_of=lambda trace_id, record_span_id: [])

    def scores_of(self, state: RecordState, name: str) -> list[ScoreFrame]:
        return [
            frame
            for frame in self.frames
            if isinstance(frame, ScoreFrame) and frame.span_id == state.span_id and frame.name == name
        ]


class Told:
    """A record's handle: what it was told, in order; waits for final scores without polling."""

    def __init__(self) -> None:
        self.all: list[Score] = []
        self.threads: set[threading.Thread] = set()
        self._final: queue.SimpleQueue[Score] = queue.SimpleQueue()

    def settle(self, score: Score) -> None:
        self.all.append(score)
        self.threads.add(threading.current_thread())
        if score.final:
            self._final.put(score)

    def final(self, count: int = 1, timeout: float = 20) -> dict[str, Score]:
        found: dict[str, Score] = {}
        for _ in range(count):
            score = self._final.get(timeout=timeout)
            assert score.name not in found, f"{score.name} became final twice"
            found[score.name] = score
        return found

    def one(self, timeout: float = 20) -> Score:
        return next(iter(self.final(1, timeout).values()))


class Bench:
    """An engine, its keeper, and records for it."""

    def __init__(self) -> None:
        self.keeper = MemoryKeeper()
        self.engine = Engine(self.keeper)  # type: ignore[arg-type]

    def record(
        self, input: Any = None, output: Any = "mild", *, context: list[Any] | None = None, **changes: Any
    ) -> RecordState:
        number = next(_numbers)
        trace_id, span_id, now = number.to_bytes(16, "big"), number.to_bytes(8, "big"), time.time_ns()
        state = RecordState(
            trace_id=trace_id,
            span_id=span_id,
            keeper=self.keeper,  # type: ignore[arg-type]
            start=SpanStart(
                *(trace_id, span_id, None, span_id, "ask", "chain", now),
                app="demo",
                app_version="1",
                input=orjson.dumps({"question": "weather?"} if input is None else input),
            ),
            end=SpanEnd(trace_id, span_id, span_id, now + 5_000_000, "ok", output=orjson.dumps(output)),
            handle=Told(),
        )
        if context is not None:
            state.documents.append(orjson.dumps(context))
        for name, value in changes.items():
            setattr(state.end, name, value)
        return state

    def judge(self, *metrics: Metric, **options: Any) -> Told:
        state = self.record(**options)
        self.engine.submit(state, metrics)
        return state.handle  # type: ignore[no-any-return]


@pytest.fixture
def bench() -> Iterator[Bench]:
    made = Bench()
    yield made
    made.engine.leaving = True
