"""Making captured values fit for files: text that UTF-8 cannot hold, numbers that JSON does not know."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

_half = re.compile("[\ud800-\udfff]")


def storable(value: Any) -> Any:
    """The same value with nothing in it that cannot be written: half characters become ``\\N{REPLACEMENT CHARACTER}``.

    NaN and infinity, which JSON has no word for, become the text that Python prints for them: a ``null`` would say that
    nothing was there. Keys become text, as JSON has no others.

    Example
    -------
    >>> storable({1: ["a" + chr(0xD800), float("nan")]})
    {'1': ['a�', 'nan']}
    """
    if isinstance(value, str):
        return value if value.isascii() else _half.sub("\N{REPLACEMENT CHARACTER}", value)
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if isinstance(value, Mapping):
        return {storable(key if isinstance(key, str) else str(key)): storable(one) for key, one in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [storable(one) for one in value]
    return value
