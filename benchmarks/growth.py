"""Whether cost stays linear as the store grows: stored spans a second and the time of reads at 1k to 1M spans."""

from __future__ import annotations

import os
import time
from collections.abc import Callable

import tracekeeper as tk
from benchmarks.report import table, verdict
from tracekeeper.testing import temporary_keeper

SIZES = tuple(
    size for size in (1_000, 10_000, 100_000, 300_000, 1_000_000) if size <= int(os.environ.get("BENCH_SPANS", size))
)
STEP = 20_000
"""Spans after which the calls wait for the store: what is measured is both, and the journal stays small."""


@tk.trace(kind="retriever")
def retrieve(question: str) -> list[str]:
    return ["Ireland has a mild, oceanic climate."]


def long_enough(output: str) -> bool:
    return len(output) > 10


def p95(read: Callable[[], object]) -> float:
    """Milliseconds, of 20 reads."""
    took = []
    for _ in range(20):
        begun = time.perf_counter()
        read()
        took.append((time.perf_counter() - begun) * 1000)
    return sorted(took)[18]


def main() -> None:
    """One store that grows; a record of four spans has one score and reports tokens."""
    rows = []
    with temporary_keeper():

        @tk.app(name="bench", version="1", metrics=[long_enough])
        def ask(question: str) -> str:
            retrieve(question)
            retrieve(question)
            with tk.span("generate", kind="llm") as span:
                span.set(usage={"input_tokens": 120, "output_tokens": 30})
            return "It is mild there."

        spans = 0
        for size in SIZES:
            begun, before = time.perf_counter(), spans
            while spans < size:
                with tk.context(user_id=f"user-{spans % 1000}"):
                    ask(f"question {spans}")
                spans += 4
                if spans % STEP == 0 or spans >= size:
                    ask.app.wait_for_scores(timeout=300)
                    assert tk.flush(timeout=300).complete
            rate = (spans - before) / (time.perf_counter() - begun)
            listing = p95(lambda: tk.records(limit=50))
            filtered = p95(lambda: tk.records('app = "bench" and user = "user-4" and latency < 10s', limit=50))
            board = p95(tk.leaderboard)
            said = verdict(max(listing, filtered, board), 100)
            rows.append((f"{spans:,}", round(rate), listing, filtered, board, said))
    table(
        "Growth (four spans and a score a record; calls, scoring, shipping and reading in one process)",
        (
            "spans",
            "stored spans/s of this step",
            "list 50, p95 ms",
            "filter, p95 ms",
            "leaderboard, p95 ms",
            "target 100 ms",
        ),
        rows,
    )
