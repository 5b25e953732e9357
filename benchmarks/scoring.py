"""Scored records a second, and the time from a call's end to its score being visible to a reader of the store.

And whether scores that wait wait side by side: 20 records with two metrics of half a second each.
"""

from __future__ import annotations

import asyncio
import statistics
import time

import tracekeeper as tk
from benchmarks.report import table, verdict
from tracekeeper.testing import temporary_keeper

RECORDS, PROBES, ROUNDS = 10_000, 200, 3
WAITING, HALF = 20, 0.5


def trivial(output: str) -> float:
    return 1.0


async def atrivial(output: str) -> float:
    return 1.0


def rate(metric: object) -> float:
    """Records a second from the first call to every score in the store."""
    with temporary_keeper():

        @tk.app(name="bench", version="1", metrics=[metric])  # type: ignore[list-item]
        def ask(question: str) -> str:
            return "mild"

        begun = time.perf_counter()
        for number in range(RECORDS):
            ask(str(number))
        ask.app.wait_for_scores(timeout=120)
        receipt = tk.flush(timeout=120)
        took = time.perf_counter() - begun
        assert receipt.complete, receipt
        assert receipt.scores.get("scored") == RECORDS, receipt
        return RECORDS / took


def visible() -> list[float]:
    """Seconds from the end of a call to its score in the database, one call at a time, read by another connection."""
    import sqlite3

    took = []
    with temporary_keeper() as keeper:

        @tk.app(name="bench", version="1", metrics=[trivial])
        def ask(question: str) -> str:
            return "mild"

        ask("warm-up").upper()
        tk.flush(timeout=60)
        reader = sqlite3.connect(keeper.directory / "tracekeeper.db", isolation_level=None)
        for number in range(PROBES):
            want = number + 2
            ask(str(number))
            ended = time.perf_counter()
            while reader.execute("SELECT count(*) FROM score WHERE status = 'scored'").fetchone()[0] < want:
                time.sleep(0.001)
            took.append(time.perf_counter() - ended)
        reader.close()
    return took


def half_a_second(output: str) -> float:
    time.sleep(HALF)
    return 1.0


async def ahalf_a_second(output: str) -> float:
    await asyncio.sleep(HALF)
    return 1.0


def side_by_side() -> float:
    """Seconds until twenty records have the scores of a sync and an async metric of half a second."""
    with temporary_keeper():

        @tk.app(name="bench", version="1", metrics=[half_a_second, ahalf_a_second])
        def ask(question: str) -> str:
            return "mild"

        begun = time.perf_counter()
        for number in range(WAITING):
            ask(str(number))
        settled = ask.app.wait_for_scores(timeout=60)
        took = time.perf_counter() - begun
        assert all(score.status == "scored" for _, scores in settled for score in scores.values())
        return took


def main() -> None:
    """Sync and async metrics in turn."""
    rates = [(rate(trivial), rate(atrivial)) for _ in range(ROUNDS)]
    rows: list[tuple[object, ...]] = []
    for name, values in (("sync metric", [a for a, _ in rates]), ("async metric", [b for _, b in rates])):
        middle = statistics.median(values)
        rows.append((f"scored records/s, {name}", round(middle), verdict(middle, 2_000, at_most=False)))
    waits = sorted(visible())
    p99 = waits[int(len(waits) * 0.99)] * 1000
    rows.append(("call end to visible score, p50 ms", statistics.median(waits) * 1000, ""))
    rows.append(("call end to visible score, p99 ms", p99, verdict(p99, 100)))
    took = statistics.median(side_by_side() for _ in range(ROUNDS))
    rows.append((f"{WAITING} records x 2 metrics of {HALF} s, settled after s", took, verdict(took, 1.5)))
    table(f"Scoring, trivial metric, {RECORDS:,} records", ("what", "measured", "target"), rows)
