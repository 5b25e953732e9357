"""The filter language: ``app = "rag" and status = error and score.groundedness < 0.5 and latency > 2s``.

One small typed language for Python, the command line, the API, pages, rules and datasets; ``docs/filters.md`` describes
it for users. ``parse`` turns text into a tree (pure, no database), ``compile_filter`` turns it into a condition over
the tables. What a user types reaches SQL as bound parameters only.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tracekeeper.store.filter.fields import ITEMS, RECORDS, Field, Vocabulary, fields
from tracekeeper.store.filter.grammar import parse
from tracekeeper.store.filter.nodes import Node

if TYPE_CHECKING:
    from tracekeeper.store.filter.compile import compile_filter

__all__ = ["ITEMS", "RECORDS", "Field", "Node", "Vocabulary", "compile_filter", "fields", "parse"]


def __getattr__(name: str) -> object:
    # Parsing (completions, checking a filter before anything runs) must not cost the import of SQLAlchemy.
    if name == "compile_filter":
        from tracekeeper.store.filter.compile import compile_filter

        return compile_filter
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
