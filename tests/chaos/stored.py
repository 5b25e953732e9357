"""What is in the store in the end, and what the conductor knows of the processes: what the checks look at."""

from __future__ import annotations

import contextlib
import json
import sqlite3
from collections import Counter, defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from tests.chaos.truth import Key

INNER = "SELECT trace_id, record_span_id FROM span WHERE kind = 'retriever'"
QUESTIONS = "SELECT record.id, json_extract(input, '$.question') FROM record JOIN payload USING (id)"


class Fate(NamedTuple):
    """What the conductor knows of a child."""

    name: str
    kind: str
    pid: int
    code: int | None
    told: str | None
    stops: tuple[tuple[float, float], ...]
    stepped: bool
    """Whether its clock was set."""

    @property
    def killed(self) -> bool:
        return self.code is not None and self.code < 0

    def stood_still(self, begin: float, end: float) -> float:
        return sum(max(0.0, min(end, until) - max(begin, since)) for since, until in self.stops)


class Violation(NamedTuple):
    check: str
    text: str
    key: Key | None = None


Row = dict[str, Any]


class Stored:
    """Everything that is in the store."""

    def __init__(self, database: Path) -> None:
        with contextlib.closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as reader:
            reader.row_factory = sqlite3.Row
            self.records = self._by_key(reader, "SELECT * FROM record")
            self.scores = self._by_key(reader, "SELECT * FROM score")
            self.attempts: dict[int, list[Row]] = defaultdict(list)
            for row in reader.execute("SELECT * FROM score_attempt ORDER BY score_id, attempt"):
                self.attempts[row["score_id"]].append(dict(row))
            self.inner = Counter((row["trace_id"], row["record_span_id"]) for row in reader.execute(INNER))
            """How many spans lie below a record: each app calls one retriever."""
            self.questions = dict(reader.execute(QUESTIONS).fetchall())
            self.workers = [row["pid"] for row in reader.execute("SELECT pid FROM worker")]
            self.journals = [dict(row) for row in reader.execute("SELECT * FROM journal ORDER BY id")]
            self.spans = dict(reader.execute("SELECT journal_id, count(*) FROM span GROUP BY journal_id").fetchall())

    @staticmethod
    def _by_key(reader: sqlite3.Connection, query: str) -> dict[Key, list[Row]]:
        found: dict[Key, list[Row]] = defaultdict(list)
        for row in reader.execute(query):
            found[row["trace_id"], row["span_id"]].append(dict(row))
        return found


def counts_of(text: str) -> Mapping[str, int]:
    return dict(json.loads(text or "{}"))


def shown(row: Row) -> str:
    return ", ".join(f"{name}={value!r:.200}" for name, value in row.items() if value not in (None, "", "{}"))
