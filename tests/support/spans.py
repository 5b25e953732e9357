"""Spans as frames, written to a keeper without the span class: for tests of what lies below it, in any process."""

from __future__ import annotations

import os
import random
import sqlite3
import time
from pathlib import Path

from tracekeeper.journal.frames import SpanCheckpoint, SpanEnd, SpanStart
from tracekeeper.tracing.runtime import Keeper

ROOT = Path(__file__).resolve().parents[2]

PRELUDE = f"""
import sys
sys.path.insert(0, {str(ROOT)!r})
from tests.support.spans import *
import os, signal, threading, time
import tracekeeper as tk
from tracekeeper.tracing import runtime
from tracekeeper.tracing.runtime import keeper
"""
"""Beginning of a program that writes spans."""

_random = random.Random(os.urandom(16))
os.register_at_fork(after_in_child=lambda: _random.seed(os.urandom(16)))


def begin(keeper: Keeper, name: str = "call") -> SpanStart:
    """Write the start of a record."""
    identity = _random.randbytes(8)
    start = SpanStart(
        _random.randbytes(16), identity, None, identity, name, "task", time.time_ns(), input=b'"question"'
    )
    keeper.write(start)
    return start


def checkpoint(keeper: Keeper, start: SpanStart, text: str) -> bool:
    return keeper.write(SpanCheckpoint(start.trace_id, start.span_id, time.time_ns(), b'"%s"' % text.encode()))


def end(keeper: Keeper, start: SpanStart, output: bytes = b'"answer"') -> bool:
    """Write the end of a record."""
    return keeper.write(SpanEnd(start.trace_id, start.span_id, start.record_id, time.time_ns(), "ok", output))


def call(keeper: Keeper, name: str = "call") -> bool:
    """Write a record, as a traced call does."""
    return end(keeper, begin(keeper, name))


def stored(directory: Path, query: str = "SELECT name, status FROM span ORDER BY id") -> list[tuple[object, ...]]:
    """Rows of a data directory's store, read without Tracekeeper; none when nobody has made it yet."""
    if not (directory / "tracekeeper.db").exists():
        return []
    connection = sqlite3.connect(f"file:{directory / 'tracekeeper.db'}?mode=ro", uri=True)
    try:
        return connection.execute(query).fetchall()
    finally:
        connection.close()


def statuses(directory: Path) -> dict[str, int]:
    """Number of spans by status."""
    return dict(stored(directory, "SELECT status, count(*) FROM span GROUP BY status"))  # type: ignore[arg-type]


def doubled(directory: Path) -> list[tuple[object, ...]]:
    """Spans that are in the store more than once."""
    query = "SELECT name, count(*) FROM span GROUP BY trace_id, span_id HAVING count(*) > 1"
    return stored(directory, query)


def journals(directory: Path) -> list[Path]:
    return sorted((directory / "journal").glob("*.journal"))
