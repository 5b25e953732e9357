"""``raise_for_failures()``: failures as an exception that says the most important things in its message."""

from __future__ import annotations

from collections.abc import Sequence

from tracekeeper.evaluation.accounts import why
from tracekeeper.evaluation.facts import RunFacts
from tracekeeper.evaluation.result import ItemResult
from tracekeeper.render import clean, plural, truncate
from tracekeeper.types import ItemsFailedError

NAMED = 10
"""Failures that the message names."""

_WIDTH = 200


def raise_for(failures: Sequence[ItemResult], *, missing: int, calls: int, facts: RunFacts) -> None:
    """Raise ``ItemsFailedError`` when there is a failure or a call without a final state."""
    if not failures and not missing:
        return
    said = []
    if failures:
        said.append(f"{len(failures):,} of {plural(calls, 'call')} failed")
    if missing:
        said.append(f"{missing:,} have not ended")
    lines = [f"{facts.title}: {', '.join(said)}"]
    lines += [f"  {call_name(one)}: {truncate(clean('; '.join(why(one))), _WIDTH)}" for one in failures[:NAMED]]
    if len(failures) > NAMED:
        lines.append(f"  and {len(failures) - NAMED:,} more")
    raise ItemsFailedError("\n".join(lines), failures=failures, missing=missing, experiment_id=facts.id)


def call_name(result: ItemResult) -> str:
    """How people call one call: the item's id, and which repeat unless it is the first.

    >>> from tracekeeper.types import ItemStatus
    >>> call_name(ItemResult(item_id="a", repeat=2, status=ItemStatus.OK))
    'a [3]'
    """
    return f"{result.item_id} [{result.repeat + 1}]" if result.repeat else result.item_id
