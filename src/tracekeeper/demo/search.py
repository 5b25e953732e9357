"""A search index over passages: SQLite's FTS5 with bm25, in memory."""

from __future__ import annotations

import re
import sqlite3
import threading
from collections.abc import Iterable

from tracekeeper.demo.passages import Passage

_WORD = re.compile(r"\w+")
_COMMON_WORDS = """a an and are as at be by can do does for from has have how i if in into is it its me my not of on or
should that the their them then there they this to was what when where which who why will with you your"""
_COMMON = frozenset(_COMMON_WORDS.split())


def words(text: str) -> list[str]:
    """The words that carry meaning, in lower case.

    >>> words("What is a journal, and why?")
    ['journal']
    """
    return [word for word in _WORD.findall(text.lower()) if word not in _COMMON]


def topics(text: str) -> set[str]:
    """The words that carry meaning, singular and plural alike, to compare texts by.

    >>> sorted(topics("Which metrics judge a metric?"))
    ['judge', 'metric']
    """
    return {word.removesuffix("s") for word in words(text)}


class Index:
    """Full-text search over passages. Safe to use from several threads."""

    def __init__(self, passages: Iterable[Passage]) -> None:
        self._lock = threading.Lock()
        self._database = sqlite3.connect(":memory:", check_same_thread=False)
        self._database.execute(
            "CREATE VIRTUAL TABLE passage USING fts5(page, heading, text, tokenize='porter unicode61')"
        )
        self._database.executemany("INSERT INTO passage VALUES (?, ?, ?)", passages)

    def search(self, question: str, limit: int) -> list[Passage]:
        """The passages that match best, the best first; none when no word of the question is anywhere."""
        query = " OR ".join(f'"{word}"' for word in words(question))
        if not query:
            return []
        with self._lock:
            rows = self._database.execute(
                "SELECT page, heading, text FROM passage WHERE passage MATCH ? ORDER BY bm25(passage, 1, 2, 1) LIMIT ?",
                (query, limit),
            ).fetchall()
        return [Passage(*row) for row in rows]

    def __len__(self) -> int:
        with self._lock:
            return int(self._database.execute("SELECT count(*) FROM passage").fetchone()[0])

    def close(self) -> None:
        """Free the memory."""
        self._database.close()
