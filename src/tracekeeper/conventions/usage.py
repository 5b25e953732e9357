"""Tokens and money of a third party's span."""

from __future__ import annotations

from collections.abc import Mapping

from tracekeeper.conventions import table
from tracekeeper.conventions.attributes import Attributes
from tracekeeper.conventions.values import amount, count, parsed
from tracekeeper.types import Usage

_NOTHING = Usage()
_KEYS = frozenset(
    {
        *(key for keys in table.USAGE.values() for key in keys),
        *(*table.TOTAL_TOKENS, *table.COST, *table.COST_PARTS, table.USAGE_DETAILS, table.COST_DETAILS),
    }
)


def read(given: Attributes) -> Usage | None:
    """What was reported; ``None`` when nothing was. What is missing stays missing: no zero is made up.

    Example
    -------
    >>> read(Attributes({"llm.token_count.prompt": "7", "llm.token_count.total": 10.0})).output_tokens
    3
    """
    if not given.has_any(_KEYS):
        return None
    details = _details(given)
    found: dict[str, int | None] = {}
    for field, keys in table.USAGE.items():
        reported = None
        if given.has_any(keys):
            reported = next((each for key in keys if (each := count(given.get(key))) is not None), None)
        found[field] = reported if reported is not None else details.get(field)
    total = next((each for key in table.TOTAL_TOKENS if (each := count(given.get(key))) is not None), None)
    into, out = found["input_tokens"], found["output_tokens"]
    if total is not None and (into is None) != (out is None):
        missing = total - (into if into is not None else out or 0)
        if missing >= 0:
            found["output_tokens" if out is None else "input_tokens"] = missing
    made = Usage(
        input_tokens=found["input_tokens"],
        output_tokens=found["output_tokens"],
        cache_read_tokens=found["cache_read_tokens"],
        cache_write_tokens=found["cache_write_tokens"],
        reasoning_tokens=found["reasoning_tokens"],
        cost=_cost(given),
    )
    return None if made == _NOTHING else made


def _details(given: Attributes) -> dict[str, int | None]:
    """Langfuse's details: one JSON object, whose parts may be beside the whole instead of in it."""
    held = parsed(given.get(table.USAGE_DETAILS))
    if not isinstance(held, Mapping):
        return {}
    found = {
        field: next((each for name in names if (each := count(held.get(name))) is not None), None)
        for field, names in table.DETAILS.items()
    }
    into, out, total = found["input_tokens"], found["output_tokens"], count(held.get("total"))
    read_, written, reasoned = (
        found[name] or 0 for name in ("cache_read_tokens", "cache_write_tokens", "reasoning_tokens")
    )
    beside = read_ + written + reasoned
    if into is not None and out is not None and beside and into + out + beside == total:  # they were told apart
        found["input_tokens"], found["output_tokens"] = into + read_ + written, out + reasoned
    return found


def _cost(given: Attributes) -> float | None:
    told = next((each for key in table.COST if (each := amount(given.get(key))) is not None), None)
    if told is not None:
        return told
    parts = [part for key in table.COST_PARTS if (part := amount(given.get(key))) is not None]
    if parts:
        return sum(parts)
    details = parsed(given.get(table.COST_DETAILS))
    if not isinstance(details, Mapping):
        return None
    whole = amount(details.get("total"))
    single = [each for value in details.values() if (each := amount(value)) is not None]
    return whole if whole is not None else sum(single) if single else None
