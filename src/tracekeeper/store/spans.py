"""Storing spans: ``SpanWriter`` gathers the rows of one batch and executes each statement once, on all of them.

Row ids are assigned here (the write lock is held), so payloads, records and tags know theirs without a query per row.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence

from tracekeeper.journal.frames import ScoreBirth, SpanCheckpoint, SpanEnd
from tracekeeper.store import score_statements
from tracekeeper.store import statements as sql
from tracekeeper.store.rows import SpanWrite
from tracekeeper.store.span_rows import (
    Row,
    end_payload_row,
    ending,
    first_chunk,
    integer,
    payload_row,
    record_row,
    span_row,
    start_of,
    tags_of,
    tags_text,
    text_of,
)

AppOf = Callable[[str | None, str | None, int], int | None]
"""Row id of an app from its name, version and the time it was seen."""


class Born:
    """A record of this batch and what its metrics decided."""

    __slots__ = ("app_id", "births", "ended", "record_id", "span_id", "trace_id")

    def __init__(
        self, trace_id: str, span_id: str, record_id: int, app_id: int | None, ended: int, births: Sequence[ScoreBirth]
    ) -> None:
        self.trace_id = trace_id
        self.span_id = span_id
        self.record_id = record_id
        self.app_id = app_id
        self.ended = ended
        self.births = births


class SpanWriter:
    """Gathers the span rows of one batch, then writes them.

    Parameters
    ----------
    driver:
        In a write transaction.
    journal_id:
        Whose batch it is.
    app_of:
        Finds or makes the row of an app.
    """

    def __init__(self, driver: sqlite3.Connection, journal_id: int, app_of: AppOf) -> None:
        self._driver = driver
        self._journal_id = journal_id
        self._app_of = app_of
        (last,) = driver.execute("SELECT max(id) FROM span").fetchone()
        self.first_id: int = (last or 0) + 1
        self.born: list[Born] = []
        self.records: dict[tuple[str, str], tuple[int, int | None]] = {}
        """Records inserted by this batch: row id and app."""
        self.used: set[tuple[str, str]] = set()
        """Records whose spans reported usage."""

    def insert(self, writes: Sequence[SpanWrite]) -> None:
        """Insert spans that the store does not have."""
        spans: list[Row] = []
        payloads: list[Row] = []
        records: list[Row] = []
        tags: list[Row] = []
        for row, write in enumerate(writes, self.first_id):
            start, end = write.start, write.end
            is_record = start.record_id == start.span_id
            trace_id, span_id = start.trace_id.hex(), start.span_id.hex()
            spans.append(span_row(row, trace_id, span_id, write, self._journal_id))
            payload = payload_row(row, start, write.checkpoint, end)
            if payload is not None:
                payloads.append(payload)
            if end is not None and end.usage is not None and start.record_id and not is_record:
                self.used.add((trace_id, start.record_id.hex()))
            if is_record:
                app_id = self._app_of(
                    (end.app if end is not None else None) or start.app,
                    (end.app_version if end is not None else None) or start.app_version,
                    start.started,
                )
                record, names = record_row(row, trace_id, span_id, write, app_id)
                records.append(record)
                if names:
                    tags.extend((name, row) for name in names)
                # Of two records by one key, scores belong to the first.
                self.records.setdefault((trace_id, span_id), (row, app_id))
                if end is not None and end.scores:
                    self.born.append(Born(trace_id, span_id, row, app_id, end.ended, end.scores))
        driver = self._driver
        driver.executemany(sql.INSERT_SPAN.text, spans)
        if payloads:
            driver.executemany(sql.INSERT_PAYLOAD.text, payloads)
        if records:
            driver.executemany(sql.INSERT_RECORD.text, records)
        if tags:
            driver.executemany(sql.INSERT_TAG.text, tags)

    def progress(self, checkpoints: Sequence[SpanCheckpoint]) -> None:
        """Keep how far open spans have come."""
        payloads, chunks = [], []
        for checkpoint in checkpoints:
            found = self._find(checkpoint.trace_id, checkpoint.span_id)
            if found is None:
                continue  # it has ended, or was deleted: its output so far says nothing new
            row, _ = found
            output = text_of(checkpoint.output)
            if output is not None:
                nothing = (None,) * 8
                payloads.append((row, None, 0, output, checkpoint.output_size, *nothing))
            chunks.append((integer(checkpoint.chunks), row))
        if payloads:
            self._driver.executemany(sql.MERGE_PAYLOAD.text, payloads)
        if chunks:
            self._driver.executemany(sql.COUNT_CHUNKS.text, chunks)

    def end(self, ends: Sequence[SpanEnd]) -> list[SpanWrite]:
        """End spans whose row is stored. Gives back, as whole spans, those whose row was deleted meanwhile."""
        spans: list[Row] = []
        payloads: list[Row] = []
        records: list[Row] = []
        tags: list[Row] = []
        apps: list[Row] = []
        gone: list[Row] = []
        lost: list[SpanWrite] = []
        for end in ends:
            found = self._find(end.trace_id, end.span_id)
            if found is None:
                if not self._exists(end):
                    lost.append(SpanWrite(start_of(end), end))
                continue  # a second end: the first one stands
            row, started = found
            trace_id, span_id = end.trace_id.hex(), end.span_id.hex()
            if end.usage is not None and end.record_id:  # spans of an evaluation are of no record
                self.used.add((trace_id, end.record_id.hex()))
            duration = max(0, end.ended - started)
            error_type = end.error.type if end.error is not None else None
            spans.append(
                (end.name, end.kind, *ending(end, duration), integer(end.chunks), first_chunk(end, started), row)
            )
            payload = end_payload_row(row, end)
            if payload is not None:
                payloads.append(payload)
            if end.record_id == end.span_id:
                app_id = self._app_of(end.app, end.app_version, started)
                known_app, known_tags = self._driver.execute(sql.FIND_RECORD.text, (row,)).fetchone() or (None, None)
                if app_id is None:
                    app_id = known_app
                else:
                    apps.append((app_id, row))
                names = None if end.tags is None else tags_text(end.tags)
                records.append(
                    (app_id, end.name, str(end.status), duration, error_type, end.session_id, end.user_id, names, row)
                )
                if end.tags is not None:
                    gone.extend((name, row) for name in tags_of(known_tags))
                    tags.extend((name, row) for name in end.tags)
                if end.scores:
                    self.born.append(Born(trace_id, span_id, row, app_id, end.ended, end.scores))
        for statement, rows in (
            (sql.END_SPAN, spans),
            (sql.MERGE_PAYLOAD, payloads),
            (sql.END_RECORD, records),
            (sql.DELETE_TAG, gone),
            (sql.INSERT_TAG, tags),
            (score_statements.SET_APP, apps),
        ):
            if rows:
                self._driver.executemany(statement.text, rows)
        return lost

    def add_up(self, *, has_new: bool) -> None:
        """Sum tokens and money of the records whose spans reported any."""
        if has_new:
            self._driver.execute(sql.SUM_NEW_RECORDS.text, (self.first_id,))
        known = [key for key in self.used if key not in self.records]
        if known:
            self._driver.executemany(sql.SUM_RECORD.text, known)

    def _find(self, trace_id: bytes, span_id: bytes) -> tuple[int, int] | None:
        key = (trace_id.hex(), span_id.hex(), self._journal_id)
        found: tuple[int, int] | None = self._driver.execute(sql.FIND_OPEN.text, key).fetchone()
        return found

    def _exists(self, end: SpanEnd) -> bool:
        statement = "SELECT 1 FROM span WHERE trace_id = ? AND span_id = ?"
        return self._driver.execute(statement, (end.trace_id.hex(), end.span_id.hex())).fetchone() is not None
