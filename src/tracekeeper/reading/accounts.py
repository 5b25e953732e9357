"""``tracekeeper status``: one account of a data directory, from its journals and its store.

Everything is read from where it is true: what is stored from the store's own rows, what is pending by reading each
journal on from the cursor of its row. So the figures fit together whoever asks, and from whichever process.
"""

from __future__ import annotations

import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tracekeeper.journal.cursor import Cursor
from tracekeeper.journal.reader import JournalReader
from tracekeeper.reading.fresh import TIMEOUT, seconds
from tracekeeper.shipper.account import count
from tracekeeper.shipper.plan import Planner
from tracekeeper.tracing import runtime
from tracekeeper.types import JournalError, StoreError

if TYPE_CHECKING:
    from tracekeeper.store.results import JournalRow, ScoreRow
    from tracekeeper.store.store import Store

OPEN_SHOWN = 20
"""Open scores that are named one by one, the oldest first."""

STATES = {"live": "live", "recovered": "adopted", "closed": "closed"}
"""What the store calls the state of a journal, and what people read. A journal on disk whose process is gone and that
nobody could adopt yet is ``dead``."""


def status(*, timeout: float = TIMEOUT) -> dict[str, Any]:
    """The account of the data directory as plain data.

    Everything that can be stored is stored first, within ``timeout`` seconds; ``note`` says why that was not possible.
    A store that cannot be read is no error here: ``store_error`` says why, and the journals are shown all the same.
    """
    keeper = runtime.keeper()
    reason = keeper.ship(seconds(timeout))
    found: dict[str, Any] = {**keeper.status(), "note": reason, "store_error": None}
    try:
        store = keeper.store()
        rows = {row.name: row for row in store.journal_rows()}
        counts = store.counts()
        found["stored"] = counts._asdict()
        found["open"] = [_open(row, rows) for row in store.open_scores(limit=OPEN_SHOWN)]
        found["journals"] = [{**entry, **_ledger(entry, rows.get(entry["name"]), store)} for entry in found["journals"]]
        on_disk = {entry["name"] for entry in found["journals"]}
        gone = [row for name, row in rows.items() if name not in on_disk]
        found["earlier_journals"] = dict(Counter(STATES.get(row.state, row.state) for row in gone))
    except StoreError as error:
        found["store_error"] = str(error)
    for entry in found["journals"]:
        entry.setdefault("state", "live" if entry["alive"] else "dead")
    return found


def _ledger(entry: dict[str, Any], row: JournalRow | None, store: Store) -> dict[str, Any]:
    """What the store has of a journal that is on disk, and what it lacks."""
    state = "live" if entry["alive"] else "adopted" if row is not None and row.state == "recovered" else "dead"
    known: dict[str, Any] = {"state": state, "spans_stored": 0, "scores_stored": 0, "cursor_version": 0}
    if row is not None:
        known.update(
            spans_stored=row.spans_stored,
            scores_stored=row.scores_stored,
            cursor_version=row.cursor_version,
            damaged=row.damaged,
            refused=row.refused,
            last_batch=row.seen_at,
        )
    try:
        known["pending"] = _pending(Path(entry["path"]), row, store)
    except (JournalError, FileNotFoundError) as error:  # damaged, or removed a moment ago
        known["pending"], known["reason"] = None, entry.get("reason") or str(error)
    return known


def _pending(path: Path, row: JournalRow | None, store: Store) -> int:
    """Spans of a journal that are not in the store."""
    reader = JournalReader(path)
    try:
        if row is None:
            return count(reader, Planner(), Cursor())
        return count(reader, Planner(running=store.running_spans(row.id)), Cursor.decode(row.cursor))
    finally:
        reader.close()


def _open(row: ScoreRow, journals: dict[str, JournalRow]) -> dict[str, Any]:
    producer = next((journal for journal in journals.values() if journal.id == row.journal_id), None)
    return {
        "name": row.name,
        "status": row.status,
        "trace_id": row.trace_id,
        "span_id": row.span_id,
        "age": (time.time_ns() - row.created_at) / 1e9,
        "running_for": None if row.started_at is None else (time.time_ns() - row.started_at) / 1e9,
        "reason": row.reason,
        "pid": None if producer is None else producer.pid,
        "host": None if producer is None else producer.host,
    }
