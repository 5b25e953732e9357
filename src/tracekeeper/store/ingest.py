"""Storing a batch: everything that one transaction writes, in the order that its parts need.

The cursor comes first: it is compared and moved in the same transaction, so a shipper that is behind is stopped before
it has written anything, and a batch is stored exactly once.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Mapping, Sequence

import msgspec

from tracekeeper.journal.frames import Definition, ItemFrame
from tracekeeper.store import score_statements, scores
from tracekeeper.store import statements as sql
from tracekeeper.store.claims import losses as claims_lost
from tracekeeper.store.errors import StaleCursor
from tracekeeper.store.rows import Applied, Batch
from tracekeeper.store.span_rows import text_of
from tracekeeper.store.spans import SpanWriter
from tracekeeper.types import faults

Apps = dict[tuple[str, str], int]


class Ingest:
    """The work of one batch.

    Parameters
    ----------
    driver:
        In a write transaction, which the caller commits.
    journal_id:
        Whose batch it is.
    apps:
        Row ids of apps that are known to be committed. What this batch adds is in ``new_apps`` until the caller has
        committed: a cache must not remember what was rolled back.
    """

    def __init__(self, driver: sqlite3.Connection, journal_id: int, apps: Mapping[tuple[str, str], int]) -> None:
        self._driver = driver
        self._journal_id = journal_id
        self._apps = apps
        self.new_apps: Apps = {}

    def apply(self, batch: Batch) -> Applied:
        """Write everything that the batch says.

        Raises
        ------
        StaleCursor
            The stored cursor is not at the batch's version.
        """
        driver, journal_id, now = self._driver, self._journal_id, time.time_ns()
        name = self._move_cursor(batch, now)
        faults.point("store.apply.begun")
        self._define(batch.definitions, now)
        spans = SpanWriter(driver, journal_id, self._app)
        inserted = len(batch.inserts)
        if batch.inserts:
            spans.insert(batch.inserts)
        if batch.checkpoints:
            spans.progress(batch.checkpoints)
        if batch.ends and (lost := spans.end(batch.ends)):
            again = SpanWriter(driver, journal_id, self._app)
            again.insert(lost)
            spans.born += again.born
            spans.used |= again.used
            spans.records |= again.records
            inserted += len(lost)
        faults.point("store.apply.spans")
        changed = refused = 0
        if spans.born or batch.scores:
            changed, refused = scores.store(driver, journal_id, name, spans.born, batch.scores, now)
        if batch.items:
            self._items(batch.items)
        if batch.interrupt:
            driver.execute(sql.INTERRUPT_RECORDS.text, (journal_id,))
            driver.execute(sql.INTERRUPT_SPANS.text, (journal_id,))
            changed += claims_lost.interrupt(driver, journal_id, name, now)
        spans.add_up(has_new=bool(spans.records))
        self._adopt(spans, batch)
        state = "recovered" if batch.interrupt else None
        driver.execute(sql.COUNT_STORED.text, (state, inserted, changed, refused, journal_id))
        return Applied(inserted, changed, refused, batch.cursor_version + 1)

    def _move_cursor(self, batch: Batch, now: int) -> str:
        # Counters only grow, so a batch that brings none leaves what is stored.
        dropped = msgspec.json.encode(batch.dropped).decode() if batch.dropped else None
        values = (batch.cursor, batch.damaged, dropped, now, self._journal_id, batch.cursor_version)
        moved = self._driver.execute(sql.MOVE_CURSOR.text, values).rowcount
        found = self._driver.execute(
            "SELECT name, cursor_version FROM journal WHERE id = ?", (self._journal_id,)
        ).fetchone()
        if found is None:
            raise StaleCursor(f"the store has no journal with the id {self._journal_id}: register it again")
        name: str = found[0]
        if not moved:
            raise StaleCursor(
                f"the cursor of the journal {name} is at version {found[1]}, not {batch.cursor_version}: "
                "somebody else stored frames of it"
            )
        return name

    def _define(self, definitions: Sequence[Definition], now: int) -> None:
        for definition in definitions:
            statement = sql.DEFINE.get(definition.kind)
            if statement is None:  # a newer version's kind; its frames are understood without it
                continue
            row = (definition.name, definition.version, now, text_of(definition.data) or "{}")
            self._driver.execute(statement.text, row)

    def _app(self, name: str | None, version: str | None, seen: int) -> int | None:
        if name is None:
            return None
        key = (name, version or "")
        known = self._apps.get(key) or self.new_apps.get(key)
        if known is None:
            self._driver.execute(sql.ADD_APP.text, (*key, seen))
            (known,) = self._driver.execute(sql.FIND_APP.text, key).fetchone()
            self.new_apps[key] = known
        return known

    def _items(self, items: Sequence[ItemFrame]) -> None:
        self._driver.executemany(
            sql.PUT_ITEM.text,
            [
                (
                    *(each.experiment, each.item, each.repeat, each.status, each.at),
                    *(each.trace_id.hex(), each.span_id.hex(), each.reason, text_of(each.data)),
                )
                for each in items
            ],
        )

    def _adopt(self, spans: SpanWriter, batch: Batch) -> None:
        """Join scores that have no record yet with theirs, whichever of the two came last."""
        if not spans.records and not batch.scores:
            return
        (orphans,) = self._driver.execute(score_statements.HAS_ORPHANS.text).fetchone()
        if not orphans:
            return
        keys = set(spans.records)
        keys |= {(frame.trace_id.hex(), frame.span_id.hex()) for frame in batch.scores if frame.target == "record"}
        if keys:
            self._driver.executemany(score_statements.ADOPT.text, list(keys))
