"""``Store``: one database, open in this process, for any number of threads.

It writes through one connection under a lock, reads through as many as are needed, and keeps nothing in memory but the
row ids of apps. See ``docs/design/store.md``.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Collection, Iterable, Iterator
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, update
from sqlalchemy.dialects.sqlite import insert

from tracekeeper.store import definitions, experiments, leaderboard, queries, results, schema, scores, tables, targets
from tracekeeper.store.alerts.alerts import Alerts
from tracekeeper.store.claims import losses as claims_lost
from tracekeeper.store.claims.claiming import Claiming
from tracekeeper.store.claims.counts import LeaseCounts, lease_counts
from tracekeeper.store.connections import Connections, driver_of
from tracekeeper.store.copies import Copies
from tracekeeper.store.datasets.dataset_store import DatasetStore
from tracekeeper.store.errors import StoreLocked
from tracekeeper.store.filter import Node, parse
from tracekeeper.store.filter.compile import compile_node
from tracekeeper.store.ingest import Apps, Ingest
from tracekeeper.store.results import JournalRow
from tracekeeper.store.rows import Applied, Batch
from tracekeeper.store.rules.rule_store import RuleStore
from tracekeeper.store.search import index_pending
from tracekeeper.types import StoreError, faults

__all__ = ["JournalRow", "Store"]

log = logging.getLogger("tracekeeper")

Where = ColumnElement[bool] | str | None
"""Which records: a condition over the ``record`` table, a text of the filter language, or all."""


class Store(Claiming):
    """An open database. Made by ``Store.open``; usable from any thread; in a forked child it connects anew.

    Every method raises ``StoreError`` when the database cannot be used, and ``StoreLocked`` (a ``StoreError``) when it
    wants to write and somebody else has held the write lock for ``busy_timeout``.
    """

    def __init__(self, url: str, connections: Connections) -> None:
        self.url = url
        self.path = connections.path
        self._connections = connections
        self._apps: Apps = {}
        self._rules = RuleStore(self)
        self._identity = self._file()

    @classmethod
    def open(cls, url: str, *, busy_timeout: float = 5.0) -> Store:
        """Open the database of a URL; make it when it is new, migrate it when it is older.

        Parameters
        ----------
        url:
            ``sqlite:///path/to/file.db``.
        busy_timeout:
            Seconds to wait for the write lock, each time it is wanted.

        Raises
        ------
        StoreError
            It is newer than this version, damaged, another program's, a directory, or may not be read, written or made.
            The message names the path and what to do.
        """
        path = schema.path_of(url)
        connections = Connections(path, busy_timeout=busy_timeout)
        try:
            schema.prepare(path, connections)
        except BaseException:
            connections.close()
            raise
        return cls(url, connections)

    def close(self) -> None:
        """Close all connections. Closing twice is harmless."""
        self._connections.close()

    @property
    def rules(self) -> RuleStore:
        """Rules: which records are judged by which metrics as they arrive."""
        return self._rules

    @property
    def in_use(self) -> bool:
        """Whether a connection is open; after ``close``: whether a thread is in the middle of using one."""
        return self._connections.in_use

    @contextlib.contextmanager
    def write(self) -> Iterator[Connection]:
        """A connection in a write transaction: committed after the block, rolled back if it raises."""
        self._reopen_if_replaced()
        with self._connections.write() as connection:
            yield connection

    @contextlib.contextmanager
    def read(self) -> Iterator[Connection]:
        """A connection in a read transaction: the block sees one state of the database."""
        self._reopen_if_replaced()
        with self._connections.read() as connection:
            yield connection

    # -- journals and what they bring ---------------------------------------------------------------------------------

    def register_journal(self, *, name: str, host: str, pid: int, started: int) -> JournalRow:
        """The row of a journal: inserted at the first call, found at later ones. Reads only when it is there."""
        found = self.journal_row(name)
        if found is not None:
            return found
        row = {"name": name, "host": host, "pid": pid, "started": started, "seen_at": time.time_ns()}
        statement = insert(tables.journal).values(**row, state="live", cursor=b"", cursor_version=0)
        with self.write() as connection:
            connection.execute(statement.on_conflict_do_nothing(index_elements=["name"]))
            return queries.journals(connection, name)[0]

    def journal_row(self, name: str) -> JournalRow | None:
        """The row of a journal, or ``None``."""
        with self.read() as connection:
            return next(iter(queries.journals(connection, name)), None)

    def journal_rows(self) -> list[JournalRow]:
        """All journals that ever stored here, oldest first."""
        with self.read() as connection:
            return queries.journals(connection)

    def close_journal(self, journal_id: int) -> None:
        """Say that a journal was stored to its end by its own process; what it leaves open is settled or freed."""
        statement = update(tables.journal).where(tables.journal.c.id == journal_id, tables.journal.c.state == "live")
        with self.write() as connection:
            for (name,) in connection.execute(statement.values(state="closed").returning(tables.journal.c.name)).all():
                claims_lost.interrupt(driver_of(connection), journal_id, name, time.time_ns())

    def running_spans(self, journal_id: int) -> list[tuple[bytes, bytes]]:
        """Trace and span ids of the journal's spans whose row is ``running``."""
        with self.read() as connection:
            return queries.running_spans(connection, journal_id)

    def apply(self, journal_id: int, batch: Batch) -> Applied:
        """Store a batch of a journal, in one transaction: all of it, or nothing.

        Raises
        ------
        StaleCursor
            The stored cursor is not at ``batch.cursor_version``, or the journal's row is gone.
        StoreLocked, StoreError
            Nothing was stored; the same batch can be applied again.
        """
        with self.write() as connection:
            work = Ingest(driver_of(connection), journal_id, self._apps)
            applied = work.apply(batch)
            faults.point("store.apply.commit")
        self._apps.update(work.new_apps)
        faults.point("store.apply.committed")
        return applied

    # -- scores -------------------------------------------------------------------------------------------------------

    def settle_overdue(self, now_ns: int, settle_within_ns: int, live_journals: Collection[int] = ()) -> int:
        """Fail the scores that were born longer than ``settle_within_ns`` ago and have not settled.

        Parameters
        ----------
        now_ns:
            Nanoseconds since the epoch.
        live_journals:
            Ids of journals whose processes live: their *running* scores have a deadline of their own and are left.

        Returns
        -------
        int
            How many were failed. Nothing is written, and no lock taken, when none is overdue.
        """
        with self.read() as connection:
            before = now_ns - settle_within_ns
            if not queries.open_scores(connection, limit=1, journal_id=None, born_before=before):
                return 0
        with self.write() as connection:
            return scores.settle_overdue(connection, now_ns, settle_within_ns, live_journals)

    def open_scores(
        self, *, limit: int | None = None, journal_id: int | None = None, born_before: int | None = None
    ) -> list[results.ScoreRow]:
        """Pending and running scores, oldest first."""
        with self.read() as connection:
            return queries.open_scores(connection, limit=limit, journal_id=journal_id, born_before=born_before)

    def score_counts(self, journal_id: int | None = None) -> dict[str, int]:
        """Scores by status (those that occur), of one journal or of all."""
        with self.read() as connection:
            return queries.score_counts(connection, journal_id)

    def scores_of(self, record_ids: Iterable[int]) -> list[results.ScoreRow]:
        """The scores of records, by row id; ordered by record and name."""
        with self.read() as connection:
            return queries.scores_of(connection, record_ids)

    def scores_by_key(self, keys: Iterable[tuple[str, str]]) -> list[results.ScoreRow]:
        """The scores on these (trace id, span id), also of records that are not stored yet."""
        with self.read() as connection:
            return queries.scores_by_key(connection, keys)

    def metric_definitions(self, after: int = 0) -> list[definitions.DefinitionRow]:
        """The metrics that scores were born with, in the order they became known; only those with a greater row id."""
        with self.read() as connection:
            return definitions.metric_definitions(connection, after)

    def attempts_of(self, score_ids: Iterable[int]) -> list[results.AttemptRow]:
        """Earlier attempts of scores, oldest first."""
        with self.read() as connection:
            return queries.attempts_of(connection, score_ids)

    # -- records ------------------------------------------------------------------------------------------------------

    def records(
        self,
        where: Where = None,
        *,
        limit: int | None = 50,
        before: int | None = None,
        after: int | None = None,
        oldest_first: bool = False,
    ) -> list[results.RecordRow]:
        """Records, newest first.

        Parameters
        ----------
        where:
            Which ones.
        limit:
            How many at most; ``None``: all.
        before, after:
            Only records with a smaller, greater row id: the next page begins at the last one's.
        oldest_first:
            The other way round.

        Raises
        ------
        FilterError
            ``where`` is a text that does not parse.
        """
        wanted = self._parsed(where)
        with self.read() as connection:
            # Filters look ahead when only the first matches are wanted.
            condition = _condition(wanted, None if limit is None else connection)
            return queries.records(
                connection, condition, limit=limit, before=before, after=after, oldest_first=oldest_first
            )

    def records_by_key(self, keys: Iterable[tuple[str, str]]) -> list[results.RecordRow]:
        """The records with these (trace id, span id)."""
        with self.read() as connection:
            return queries.records_by_key(connection, keys)

    def apps_of(self, record_ids: Iterable[int]) -> dict[int, int | None]:
        """The row ids of the apps that records belong to, by the records' row ids."""
        with self.read() as connection:
            return queries.apps_of(connection, record_ids)

    def payloads(self, ids: Iterable[int]) -> dict[int, results.PayloadRow]:
        """The texts of spans, by row id; those without any are left out."""
        with self.read() as connection:
            return queries.payloads(connection, ids)

    def spans_of(self, trace_id: str, record_span_id: str | None = None) -> list[results.SpanRow]:
        """The spans of a trace, or of one record in it, by start."""
        with self.read() as connection:
            return queries.spans_of(connection, trace_id, record_span_id)

    def span_by_key(self, trace_id: str, span_id: str) -> results.SpanRow | None:
        """The span of this trace id and span id, or ``None``."""
        with self.read() as connection:
            return targets.span_by_key(connection, trace_id, span_id)

    def turns_of(self, session_id: str, *, limit: int, max_bytes: int) -> targets.Turns:
        """The newest turns of a session, oldest first; see ``targets.turns_of``."""
        with self.read() as connection:
            return targets.turns_of(connection, session_id, limit=limit, max_bytes=max_bytes)

    def leaderboard(self, where: Where = None) -> list[results.LeaderboardRow]:
        """What the records of each app version add up to; records of no app come last, as app ``None``."""
        return leaderboard.leaderboard(self.read, _condition(self._parsed(where), None))

    def experiment(self, wanted: str) -> experiments.ExperimentRow | None:
        """The experiment with this id, else the newest with this name; ``None``: there is none."""
        with self.read() as connection:
            return experiments.find(connection, wanted)

    def experiments(self, limit: int = 50) -> list[experiments.ExperimentRow]:
        """The newest experiments, the latest first."""
        with self.read() as connection:
            return experiments.newest(connection, limit)

    def experiment_items(self, experiment_id: str) -> list[Row[Any]]:
        """Item rows of an experiment, in the order in which they began."""
        with self.read() as connection:
            return experiments.items(connection, experiment_id)

    # -- accounts -----------------------------------------------------------------------------------------------------

    def ledger(self, name: str) -> results.Ledger | None:
        """What the store has of a journal; ``None`` when it does not know it."""
        with self.read() as connection:
            return queries.ledger(connection, name)

    def counts(self) -> results.Counts:
        """How much there is, and what is open."""
        with self.read() as connection:
            return queries.counts(connection)

    def lease_counts(self, now_ns: int) -> list[LeaseCounts]:
        """Scores that are claimed at present, by owner, and how many of these claims have lapsed."""
        with self.read() as connection:
            return lease_counts(connection, now_ns)

    def index_search(self, *, limit: int = 10_000, seconds: float | None = 1.0) -> int:
        """Bring the full-text index forward by at most so many records or seconds; how many were indexed."""
        with self.write() as connection:
            return index_pending(connection, limit=limit, seconds=seconds)

    def _parsed(self, where: Where) -> Node | ColumnElement[bool] | None:
        """A typo is told before the database is asked, and a search finds what was stored just now."""
        if not isinstance(where, str):
            return where
        if not where.strip():
            return None
        node = parse(where)
        if "~" in where:
            try:
                self.index_search()
            except StoreLocked as error:
                log.warning("the newest records may be missing from the search: %s", error)
        return node

    @property
    def alerts(self) -> Alerts:
        """The alerts, and what they have to say."""
        return Alerts(self)

    @property
    def datasets(self) -> DatasetStore:
        """Datasets: versioned items."""
        return DatasetStore(self)

    @property
    def copies(self) -> Copies:
        """Copies of spans to other systems."""
        return Copies(self)

    # -- the file -----------------------------------------------------------------------------------------------------

    def _file(self) -> tuple[int, int] | None:
        try:
            found = self.path.stat()
        except OSError:
            return None
        return found.st_dev, found.st_ino

    def _reopen_if_replaced(self) -> None:
        """SQLite goes on writing to a file that was deleted, where nobody would find it: begin with the one there is.

        A journal that is not all removed is stored again from its beginning, since its cursor was in the old file.
        """
        if self._file() == self._identity:
            return
        log.warning("%s was deleted or replaced while it was in use; it is opened anew", self.path)
        self._connections.close()
        self._apps = {}
        schema.prepare(self.path, self._connections)
        self._identity = self._file()
        if self._identity is None:
            raise StoreError(f"{self.path} vanished again while it was opened")


def _condition(wanted: Node | ColumnElement[bool] | None, connection: Connection | None) -> ColumnElement[bool] | None:
    if wanted is None or isinstance(wanted, ColumnElement):
        return wanted
    return compile_node(wanted, connection=connection)
