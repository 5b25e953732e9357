"""Usage in whatever shape a provider's client gives it."""

from __future__ import annotations

import math
from typing import Any

from tracekeeper.conventions.told import get
from tracekeeper.types import Usage

_LIMIT = 1 << 62


def read(value: Any) -> Usage | None:
    """Usage from a ``Usage``, a mapping, or an object with attributes; ``None`` when nothing is reported in it.

    Knows OpenAI's names (Chat Completions and Responses), Anthropic's, and ours. Anthropic reports tokens read from and
    written to its cache *beside* ``input_tokens``; they are added, since ours include them.

    Example
    -------
    >>> read({"prompt_tokens": 7, "completion_tokens": 3}).total_tokens
    10
    """
    if value is None or isinstance(value, Usage):
        return value
    read_beside = _count(value, "cache_read_input_tokens")
    written_beside = _count(value, "cache_creation_input_tokens")
    input_tokens = _count(value, "input_tokens", "prompt_tokens")
    if input_tokens is not None:
        input_tokens += (read_beside or 0) + (written_beside or 0)
    usage = Usage(
        input_tokens=input_tokens,
        output_tokens=_count(value, "output_tokens", "completion_tokens"),
        cache_read_tokens=_first(
            _count(value, "cache_read_tokens"),
            read_beside,
            _count(get(value, "prompt_tokens_details"), "cached_tokens"),
            _count(get(value, "input_tokens_details"), "cached_tokens"),
        ),
        cache_write_tokens=_first(_count(value, "cache_write_tokens"), written_beside),
        reasoning_tokens=_first(
            _count(value, "reasoning_tokens"),
            _count(get(value, "completion_tokens_details"), "reasoning_tokens"),
            _count(get(value, "output_tokens_details"), "reasoning_tokens"),
        ),
        cost=_money(get(value, "cost")),
        estimated=get(value, "estimated") is True,
    )
    return None if usage == _NOTHING else usage


_NOTHING = Usage()


def _count(value: Any, *names: str) -> int | None:
    for name in names:
        found = get(value, name)
        if isinstance(found, float) and found.is_integer():
            found = int(found)
        if isinstance(found, int) and not isinstance(found, bool) and 0 <= found < _LIMIT:
            return found
    return None


def _money(found: Any) -> float | None:
    if isinstance(found, int | float) and not isinstance(found, bool) and math.isfinite(found):
        return float(found)
    return None


def _first(*found: int | None) -> int | None:
    return next((one for one in found if one is not None), None)
