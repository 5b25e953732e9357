"""Scores that workers claim: one worker and two, and what claiming alone allows.

The scores are born by a process that is at rest meanwhile. A worker needs a moment to start, so the clock runs from the
tenth part of the scores that are stored to the last one.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import tracekeeper as tk
from benchmarks.report import table, verdict
from benchmarks.worker_metrics import sleeps, trivial
from tracekeeper.testing import temporary_keeper

ROOT = Path(__file__).parents[1]
CONCURRENCY = 16
COUNTS = {"trivial": 20_000, "sleeps": 4_000}
CLAIMED = 20_000
BATCH = 100


@contextlib.contextmanager
def born(metric: object, count: int) -> Iterator[Path]:
    """A data directory with so many deferred scores to be claimed."""
    with temporary_keeper() as keeper:

        @tk.app(name="bench", version="1", metrics=[tk.metric(metric, mode="deferred")])  # type: ignore[call-overload]
        def ask(question: str) -> str:
            return "mild"

        for number in range(count):
            ask(str(number))
        assert tk.flush(timeout=300).complete
        yield keeper.directory


@contextlib.contextmanager
def workers(directory: Path, number: int) -> Iterator[None]:
    """So many workers at work on it."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("TRACEKEEPER_")}
    command = [sys.executable, "-m", "tracekeeper", "worker", "--import", "benchmarks.worker_metrics"]
    running = [
        subprocess.Popen(
            [*command, "--concurrency", str(CONCURRENCY)],
            env={**kept, "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'src'}", "TRACEKEEPER_DIRECTORY": str(directory)},
            cwd=directory,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        for _ in range(number)
    ]
    try:
        yield
    finally:
        for each in running:
            each.terminate()
        for each in running:
            each.wait(30)


def rate(metric: object, count: int, number: int) -> float:
    """Scores a second that so many workers claim, compute and store."""
    with born(metric, count) as directory, workers(directory, number):
        reader = sqlite3.connect(directory / "tracekeeper.db", isolation_level=None)
        begun, at_first = 0.0, 0
        until = time.monotonic() + 300
        while time.monotonic() < until:
            (done,) = reader.execute("SELECT count(*) FROM score WHERE status = 'scored'").fetchone()
            if not begun and done >= count / 10:
                begun, at_first = time.perf_counter(), done
            if done == count:
                reader.close()
                return (count - at_first) / (time.perf_counter() - begun)
            time.sleep(0.005)
        raise AssertionError(f"{done} of {count} scores after 300 s")


def claims() -> float:
    """Scores a second that are claimed and given back, without running anything."""
    with born(trivial, CLAIMED) as directory:
        from tracekeeper.store.store import Store

        metric = tk.metric(trivial, mode="deferred")
        store = Store.open(f"sqlite:///{directory / 'tracekeeper.db'}")
        begun, claimed = time.perf_counter(), 0
        while got := store.claim("bench", [(metric.name, metric.version)], limit=BATCH, lease=60.0):
            claimed += len(got)
        took = time.perf_counter() - begun
        store.close()
        assert claimed == CLAIMED, claimed
        return claimed / took


def main() -> None:
    """One worker, two workers, for a metric that costs nothing and for one that waits."""
    rows: list[tuple[object, ...]] = []
    for metric, count in ((trivial, COUNTS["trivial"]), (sleeps, COUNTS["sleeps"])):
        one, two = rate(metric, count, 1), rate(metric, count, 2)
        target = "" if metric is trivial else verdict(two / one, 1.6, at_most=False)
        rows.append((metric.__name__, round(one), round(two), two / one, target))
    table(
        f"Claimed, computed and stored scores a second ({CONCURRENCY} at a time in a worker; {os.cpu_count()} cores)",
        ("metric", "one worker", "two workers", "times", "target 1.6"),
        rows,
    )
    table(f"Claiming alone, {BATCH} at a time", ("what", "scores/s"), [("claimed", round(claims()))])
