"""What an evaluation in a process of its own costs, beside one in a thread: alone, and many side by side."""

from __future__ import annotations

import os
import statistics
import time

import tracekeeper as tk
from benchmarks.report import table
from tracekeeper.testing import temporary_keeper

ALONE, MANY = 200, 2_000


def where(output: str) -> int:
    return os.getpid()


def measure(**options: object) -> tuple[float, float, float]:
    """Milliseconds until the first score, the median of scores one by one, and scores a second of many."""
    judge = tk.metric(where, **options)  # type: ignore[call-overload]
    with temporary_keeper():

        @tk.app(name="bench", version="1", metrics=[judge])
        def ask(question: str) -> str:
            return "mild"

        def one() -> float:
            begun = time.perf_counter()
            with tk.recording() as recording:
                ask("alone")
            scores = recording.get().wait_for_scores(timeout=60)
            there = scores["where"].value
            assert (there == os.getpid()) == (options["isolation"] == "thread"), scores
            return (time.perf_counter() - begun) * 1000

        first = one()
        alone = statistics.median(one() for _ in range(ALONE))
        begun = time.perf_counter()
        for number in range(MANY):
            ask(str(number))
        ask.app.wait_for_scores(timeout=300)
        return first, alone, MANY / (time.perf_counter() - begun)


def main() -> None:
    """A thread, then a process."""
    rows = [(name, *measure(isolation=isolation)) for name, isolation in (("thread", "thread"), ("process", "process"))]
    rows = [(name, first, alone, round(many)) for name, first, alone, many in rows]
    columns = ("where it runs", "first, ms", "one by one, ms each", "side by side, scores/s")
    table("A trivial metric in a thread and in a process of its own", columns, rows)
