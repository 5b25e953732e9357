"""``store.rules``: everything that a store does about rules, each method one transaction."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol

from sqlalchemy import Connection

from tracekeeper.journal.frames import Definition
from tracekeeper.store.filter import Node
from tracekeeper.store.filter.compile import compile_node
from tracekeeper.store.rules import definitions as rules
from tracekeeper.store.rules import looks as rule_looks
from tracekeeper.store.rules.definitions import RuleRow, Spent, Target
from tracekeeper.store.rules.rounds import Round


class Database(Protocol):
    """What gives transactions."""

    def read(self) -> AbstractContextManager[Connection]:
        """A read transaction."""

    def write(self) -> AbstractContextManager[Connection]:
        """A write transaction."""


class RuleStore:
    """The rules of a store. Every method raises ``StoreError`` when the database cannot be used."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def all(self) -> list[RuleRow]:
        """Every rule, in the order in which they were made."""
        with self._database.read() as connection:
            return rules.rules(connection)

    def get(self, name: str) -> RuleRow | None:
        """The rule of that name."""
        with self._database.read() as connection:
            return next(iter(rules.rules(connection, name)), None)

    def put(
        self, name: str, values: Mapping[str, Any], definitions: Sequence[Definition], *, from_beginning: bool
    ) -> RuleRow:
        """Make or change a rule; see ``rules.put``."""
        with self._database.write() as connection:
            return rules.put(connection, name, values, definitions, from_beginning=from_beginning, now=time.time_ns())

    def enable(self, name: str, enabled: bool) -> bool:
        """Let a rule be applied, or not; whether there is one of that name."""
        with self._database.write() as connection:
            return rules.set_enabled(connection, name, enabled, time.time_ns())

    def remove(self, name: str) -> bool:
        """Forget a rule, see ``rules.remove``; whether there was one."""
        with self._database.write() as connection:
            return rules.remove(connection, name, time.time_ns())

    def set_error(self, rule_id: int, error: str) -> bool:
        """Say why a rule cannot be applied; whether that is news."""
        with self._database.write() as connection:
            return rules.set_error(connection, rule_id, error)

    def spent(self, rule_id: int, now: int) -> Spent:
        """What a rule has spent on the day of ``now`` (nanoseconds since the epoch)."""
        with self._database.read() as connection:
            return rules.spent(connection, rule_id, now)

    def matches_all(self, node: Node | None) -> int:
        """How many records are stored, if a filter is true of every one of them; else 0."""
        with self._database.read() as connection:
            if node is None:
                return rules.count_records(connection)
            return rules.matches_all(connection, compile_node(node))

    @contextlib.contextmanager
    def targets(
        self, row: RuleRow, node: Node | None, spans: Mapping[str, str], names: Sequence[tuple[str, str, str]]
    ) -> Iterator[Iterator[Target]]:
        """What a rule would judge of what is stored, read as it is iterated; see ``rules.targets``."""
        with self._database.read() as connection:
            where = None if node is None else compile_node(node)
            yield rules.targets(connection, where, row.target, spans, names, row.id)

    def due(self, now: int) -> list[rule_looks.Due]:
        """Every rule, and what there may be to do for each."""
        with self._database.read() as connection:
            return rule_looks.due(connection, now)

    def look(
        self,
        row: RuleRow,
        node: Node | None,
        *,
        score_names: Collection[str],
        searches: bool,
        after: Sequence[RuleRow],
        waiting: bool,
        limit: int,
        now: int,
    ) -> rule_looks.Look:
        """What a rule has to decide next; see ``rule_looks.look``."""
        with self._database.read() as connection:
            return rule_looks.look(
                connection,
                row,
                node,
                score_names=score_names,
                searches=searches,
                after=after,
                waiting=waiting,
                limit=limit,
                now=now,
            )

    @contextlib.contextmanager
    def round(self, row: RuleRow, now: int) -> Iterator[Round | None]:
        """A write transaction for what a rule decided; ``None`` when somebody else was first."""
        with self._database.write() as connection:
            made = Round(connection, row, now)
            yield made if made.begin() else None
