"""Values as cells of a table: never blank, and a missing score always with its status."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tracekeeper.render.formats import NONE, format_number
from tracekeeper.render.width import clean
from tracekeeper.types import ScoreStatus


def show(value: Any, missing: str = NONE) -> str:
    """Any value as one line that is not blank.

    Example
    -------
    >>> show(0.5), show(None), show(""), show("two\\nlines"), show(["a", "b"])
    ('0.50', 'none', 'empty', 'two lines', 'a, b')
    """
    if value is None:
        return missing
    if isinstance(value, str):
        return clean(value) or "empty"
    if isinstance(value, int | float):
        return format_number(value)
    if isinstance(value, list | tuple | set | frozenset):
        return ", ".join(show(item) for item in value) or missing
    return clean(str(value)) or "empty"


def score_cell(status: str, value: float | bool | str | None = None, reason: str | None = None) -> str:
    """A score: its value, or its status and why.

    Example
    -------
    >>> score_cell("scored", 0.8333), score_cell("timed_out"), score_cell("failed", None, "ValueError: no text")
    ('0.83', 'timed out', 'failed: ValueError: no text')
    """
    status = str(status)
    if status == ScoreStatus.SCORED.value and value is not None:
        return show(value)
    word = _word(status)
    return f"{word}: {clean(reason)}" if reason and clean(reason) else word


def aggregate_cell(counts: Mapping[str, int], mean: float | None = None, margin: float | None = None) -> str:
    """Many scores: the mean of those that have a value, how sure it is, and how many are in which status.

    Parameters
    ----------
    counts:
        Number of scores by status; their sum is all there are.
    mean:
        Of the values; ``None`` when there is none (labels, or nothing scored).
    margin:
        Half the width of its confidence interval; ``None`` when there are too few values.

    Example
    -------
    >>> aggregate_cell({"scored": 18, "failed": 1}, 0.8312, 0.0401)
    'scored 0.83 ± 0.04 (n=19, 1 failed)'
    >>> aggregate_cell({"pending": 2})
    'pending (n=2)'
    """
    found = {str(status): n for status, n in counts.items() if n}
    total = sum(found.values())
    if not total:
        return "no scores"
    # What is scored first, then in the order in which statuses follow one another.
    order = [ScoreStatus.SCORED.value, *(status.value for status in ScoreStatus)]
    present = sorted(found, key=lambda status: order.index(status) if status in order else len(order))
    first, *others = present
    head = _word(first)
    if first == ScoreStatus.SCORED.value and mean is not None:
        head += f" {format_number(float(mean))}"
        head += f" ± {format_number(float(margin))}" if margin is not None else ""
    rest = "".join(f", {found[status]:,} {_word(status)}" for status in others)
    return f"{head} (n={total:,}{rest})"


def _word(status: str) -> str:
    return status.replace("_", " ")
