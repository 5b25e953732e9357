"""Results as Markdown, for a pull request or a job's summary. Whatever was captured is escaped."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from tracekeeper.evaluation.reports.terminal import FAILURES, facts_of, failures_table, headline
from tracekeeper.evaluation.tables import metrics_table
from tracekeeper.reading.tables import Table
from tracekeeper.render import clean, truncate

if TYPE_CHECKING:
    from tracekeeper.evaluation.results import Results

CELL = 300
"""Characters of a cell."""

_special = re.compile(r"([\\`*_\[\]<>#|~&$])")


def results(found: Results) -> str:
    """Facts, metrics, failures."""
    totals = found.summary()
    parts = [f"### {inline(headline(found.facts, totals))}", ""]
    parts += [f"- {inline(name)}: {inline(value)}" for name, value in facts_of(found, totals, kept=True)]
    if totals.metrics:
        parts += ["", table_of(metrics_table(totals))]
    failures = found.failures
    if failures:
        parts += ["", f"#### Failures ({len(failures):,})", "", table_of(failures_table(failures[:FAILURES]))]
        if len(failures) > FAILURES:
            parts += ["", f"… and {len(failures) - FAILURES:,} more"]
    if found.facts.note:
        parts += ["", f"Note: {inline(found.facts.note)}"]
    return "\n".join(parts) + "\n"


def table_of(made: Table[Any]) -> str:
    """The shown columns of a table as a table of GitHub Flavored Markdown (its specification, section 4.10)."""
    rows = [[inline(truncate(clean(cell), CELL)) for cell in row] for row in made.cells()]
    return table([inline(name) for name in made.shown], rows)


def table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table from ready cells.

    >>> print(table(["a", "b"], [["1", "2"]]))
    | a | b |
    | --- | --- |
    | 1 | 2 |
    """
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def inline(text: str) -> str:
    """Text as one line in which nothing is markup, a link, a mention or HTML.

    >>> print(inline("<b>|*x*|</b> 0.75 to 0.89"))
    \\<b\\>\\|\\*x\\*\\|\\</b\\> 0.75 to 0.89
    """
    line = _special.sub(r"\\\1", clean(text))
    # An empty comment keeps forges from making a link of an address, and a mention of a name after an @.
    return line.replace("://", ":<!-- -->//").replace("@", "@<!-- -->")


def fenced(text: str, language: str = "") -> str:
    """A block of code that nothing in the text can end.

    >>> print(fenced("a```b"))
    ````
    a```b
    ````
    """
    longest = max((len(run) for run in re.findall(r"`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}{language}\n{text}\n{fence}"
