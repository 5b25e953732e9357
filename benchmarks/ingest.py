"""From journal to database: stored spans a second, against bulk-inserting the same rows into SQLite by hand.

Two rates. *Stored* is what the target is about: the spans wait in the journal (another connection holds the database's
write lock while the calls are made), the lock is released, and the clock runs until the last one is a row. *Call to
row* counts the calls as well, which run beside the shipper in the same interpreter.
"""

from __future__ import annotations

import sqlite3
import statistics
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import tracekeeper as tk
from benchmarks.report import table, verdict
from tracekeeper.testing import temporary_keeper

SPANS, ROUNDS, BATCH = 50_000, 5, 2_000

TABLES = ("span", "payload", "record")


@tk.trace
def ask(question: str) -> str:
    return "It is mild. " * 40


def call() -> None:
    for _ in range(SPANS):
        ask("What is the typical weather in Ireland?")


def until_stored() -> None:
    receipt = tk.flush(timeout=120)
    assert receipt.complete, receipt


@contextmanager
def locked(database: Path) -> Iterator[None]:
    """Nothing can be stored within the block."""
    with closing(sqlite3.connect(database, isolation_level=None, timeout=60)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        yield
        connection.execute("ROLLBACK")


def measure() -> tuple[float, float, float]:
    """Spans a second: stored, from call to row, and inserted by hand."""
    with temporary_keeper() as keeper:
        database = keeper.directory / "tracekeeper.db"
        ask("The first call makes the database.")
        until_stored()
        with locked(database):
            call()
        begun = time.perf_counter()
        until_stored()
        stored = time.perf_counter() - begun
        raw = raw_seconds(database)
    with temporary_keeper():
        begun = time.perf_counter()
        call()
        until_stored()
        whole = time.perf_counter() - begun
    return SPANS / stored, SPANS / whole, SPANS / raw


def raw_seconds(database: Path) -> float:
    """Copy the rows that were just stored into a twin of the database with ``executemany``, as large batches as ours.

    The twin has the same pages, cache, indexes and durability, and its rows are finished tuples in memory.
    """
    source = sqlite3.connect(database)
    twin = sqlite3.connect(database.with_name("twin.db"), isolation_level=None)
    for pragma in ("page_size = 8192", "journal_mode = WAL", "synchronous = NORMAL", "cache_size = -16000"):
        twin.execute(f"PRAGMA {pragma}")
    of_tables = f"SELECT sql FROM sqlite_master WHERE sql IS NOT NULL AND tbl_name IN {TABLES}"
    for (sql,) in source.execute(of_tables).fetchall():
        twin.execute(sql)
    rows = {name: source.execute(f"SELECT * FROM {name} WHERE id > 1").fetchall() for name in TABLES}
    assert all(len(each) == SPANS for each in rows.values())
    begun = time.perf_counter()
    for at in range(0, SPANS, BATCH):
        twin.execute("BEGIN IMMEDIATE")
        for name in TABLES:
            part = rows[name][at : at + BATCH]
            twin.executemany(f"INSERT INTO {name} VALUES ({', '.join('?' * len(part[0]))})", part)
        twin.execute("COMMIT")
    took = time.perf_counter() - begun
    source.close()
    twin.close()
    return took


def main() -> None:
    """Interleaved by construction: each round stores in both ways and copies what it stored."""
    rounds = [measure() for _ in range(ROUNDS)]
    stored, whole, raw = (round(statistics.median(each)) for each in zip(*rounds, strict=True))
    ratio = statistics.median(ours / by_hand for ours, _, by_hand in rounds)
    with_calls = statistics.median(ours / by_hand for _, ours, by_hand in rounds)
    table(
        f"Storing {SPANS:,} spans of 0.5 KB",
        ("what", "spans/s", "of the bulk insert", "target 1/2"),
        [
            ("journal to row", stored, ratio, verdict(ratio, 0.5, at_most=False)),
            ("call to row (calls and shipping in one process)", whole, with_calls, ""),
            ("finished rows by executemany", raw, 1.0, ""),
        ],
    )
