"""Whether a score costs the same in a large store as in a small one: settled and read at 10k to 1M stored scores."""

from __future__ import annotations

import os
import time

import tracekeeper as tk
from benchmarks.growth import p95
from benchmarks.report import table, verdict
from tracekeeper.testing import temporary_keeper

SIZES = tuple(
    size for size in (10_000, 100_000, 300_000, 1_000_000) if size <= int(os.environ.get("BENCH_SCORES", size))
)
METRICS = 5
STEP = 10_000
"""Scores after which the calls wait until all are settled and stored: what is measured is all of it."""


def _of(number: int) -> tk.Metric:
    return tk.metric(lambda output: number / METRICS, name=f"metric_{number}")


def main() -> None:
    """One store that grows; each record has five scores. The last step before each size is measured."""
    rows = []
    first = None
    with temporary_keeper():

        @tk.app(name="bench", version="1", metrics=[_of(number) for number in range(METRICS)])
        def ask(question: str) -> str:
            return "mild"

        scores = 0
        for size in SIZES:
            steps = []
            while scores < size:
                begun = time.perf_counter()
                for number in range(STEP // METRICS):
                    ask(f"question {number}")
                ask.app.wait_for_scores(timeout=300)
                receipt = tk.flush(timeout=300)
                assert receipt.complete, receipt
                scores += STEP
                steps.append((time.perf_counter() - begun) / STEP * 1e6)
            settle = sorted(steps[-5:])[len(steps[-5:]) // 2]
            first = first or settle
            listing = p95(lambda: tk.records_and_scores(limit=50))
            filtered = p95(lambda: tk.records("score.metric_1 < 0.5 and score.metric_2 > 0.1", limit=50))
            board = p95(tk.leaderboard)
            rows.append((f"{scores:,}", settle, verdict(settle / first, 1.5), listing, filtered, board))
    table(
        f"A score in a growing store ({METRICS} to a record; from the call to the settled and stored score)",
        (
            "stored scores",
            "µs a score",
            "times the first, at most 1.5",
            "50 records and scores, p95 ms",
            "filter by score, p95 ms",
            "leaderboard, p95 ms",
        ),
        rows,
    )
