"""From journal to database: stored spans a second, against bulk-inserting the same rows into SQLite by hand."""

from __future__ import annotations

import sqlite3
import statistics
import time
from pathlib import Path

import tracekeeper as tk
from benchmarks.report import table, verdict
from tracekeeper.testing import temporary_keeper

SPANS, ROUNDS, BATCH = 20_000, 5, 2_000


@tk.trace
def ask(question: str) -> str:
    return "It is mild. " * 40


def shipped() -> tuple[float, float]:
    """Spans a second from the first call to everything stored (calls included)."""
    with temporary_keeper() as keeper:
        begun = time.perf_counter()
        for _ in range(SPANS):
            ask("What is the typical weather in Ireland?")
        receipt = tk.flush(timeout=120)
        took = time.perf_counter() - begun
        assert receipt.complete, receipt
        return SPANS / took, raw_rate(keeper.directory / "tracekeeper.db")


def raw_rate(database: Path) -> float:
    """Copy the rows that were just stored into a twin of the database with ``executemany``."""
    source = sqlite3.connect(database)
    twin = sqlite3.connect(database.with_name("twin.db"), isolation_level=None)
    twin.execute("PRAGMA journal_mode=WAL")
    twin.execute("PRAGMA synchronous=NORMAL")
    tables = ("span", "payload", "record")
    for (sql,) in source.execute(
        "SELECT sql FROM sqlite_master WHERE sql IS NOT NULL AND tbl_name IN ('span', 'payload', 'record')"
    ):
        twin.execute(sql)
    rows = {name: source.execute(f"SELECT * FROM {name}").fetchall() for name in tables}
    begun = time.perf_counter()
    for at in range(0, SPANS, BATCH):
        twin.execute("BEGIN IMMEDIATE")
        for name in tables:
            part = rows[name][at : at + BATCH]
            twin.executemany(f"INSERT INTO {name} VALUES ({', '.join('?' * len(part[0]))})", part)
        twin.execute("COMMIT")
    took = time.perf_counter() - begun
    source.close()
    twin.close()
    return SPANS / took


def main() -> None:
    """Interleaved by construction: each round ships, then copies what it shipped."""
    rounds = [shipped() for _ in range(ROUNDS)]
    ours = statistics.median(one for one, _ in rounds)
    raw = statistics.median(other for _, other in rounds)
    ratio = statistics.median(one / other for one, other in rounds)
    table(
        f"Traced calls to stored rows, {SPANS:,} spans of 0.5 KB",
        (
            "stored spans/s (calls, journal and shipping in one process)",
            "raw bulk insert, rows/s",
            "ratio",
            "target 1/2",
        ),
        [(round(ours), round(raw), ratio, verdict(ratio, 0.5, at_most=False))],
    )
