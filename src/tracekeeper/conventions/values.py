"""Single values as other systems send them: a count may be an integer, a text or a double, a structure JSON text.

Every function takes anything and raises nothing; what does not fit is ``None``. NaN and infinity never pass.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import msgspec

_LARGEST = 1 << 62
_DEPTH = 32
_JSON_BEGINS = ("{", "[", '"')


def filled(value: Any) -> bool:
    """Whether there is something in it. Zero and ``False`` are something; an empty text, list or mapping is not."""
    return not (value is None or (isinstance(value, str | bytes | list | tuple | Mapping) and len(value) == 0))


def text(value: Any) -> str | None:
    """A name, an id: text that is not empty; numbers as their text."""
    if isinstance(value, str):
        return plain(value) or None
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace") or None
    if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
        return str(value)
    return None


def number(value: Any) -> float | None:
    """A finite number, also of a text."""
    if isinstance(value, bool):
        return None
    if isinstance(value, str) and len(value) <= 64:
        try:
            value = float(value)
        except ValueError:
            return None
    if isinstance(value, int):
        return float(value) if abs(value) < _LARGEST else None
    return value if isinstance(value, float) and math.isfinite(value) else None


def amount(value: Any) -> float | None:
    """A number that is not negative: money, seconds."""
    found = number(value)
    return found if found is not None and found >= 0 else None


def count(value: Any) -> int | None:
    """A whole number that is not negative, as an integer, a double or a text.

    Example
    -------
    >>> [count(value) for value in (7, 7.0, "7", "7.0", 7.5, -1, float("nan"), True, "many")]
    [7, 7, 7, 7, None, None, None, None, None]
    """
    if isinstance(value, int) and not isinstance(value, bool):
        return value if 0 <= value < _LARGEST else None
    found = amount(value)
    return int(found) if found is not None and found.is_integer() and found < _LARGEST else None


def flag(value: Any) -> bool | None:
    """A truth value, also of a text."""
    if isinstance(value, str):
        return {"true": True, "1": True, "false": False, "0": False}.get(value.strip().lower())
    return value if isinstance(value, bool) else None


def parsed(value: Any) -> Any:
    """What JSON text says; anything else as it is, and so is text that only looks like JSON.

    Example
    -------
    >>> parsed('{"a": [1]}'), parsed("{no JSON"), parsed(3)
    ({'a': [1]}, '{no JSON', 3)
    """
    if isinstance(value, bytes):
        value = value.decode("utf-8", "replace")
    if isinstance(value, str) and value.lstrip()[:1] in _JSON_BEGINS and value:
        try:
            return msgspec.json.decode(value)
        except (msgspec.MsgspecError, RecursionError, UnicodeError, ValueError):
            pass
    return plain(value) if isinstance(value, str) else value


def names(value: Any) -> tuple[str, ...]:
    """A list of names: a list, the JSON text of one, or text with commas."""
    value = parsed(value)
    if isinstance(value, str):
        value = value.split(",")
    if not isinstance(value, list | tuple):
        return ()
    found = (text(each) for each in value)
    return tuple(dict.fromkeys(each.strip() for each in found if each is not None and each.strip()))


def moment(value: Any) -> int | None:
    """A time as nanoseconds since the epoch: ISO 8601 (also as JSON text), or such nanoseconds."""
    value = parsed(value)
    if isinstance(value, str):
        try:
            at = datetime.fromisoformat(value)
            return int((at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp() * 1_000_000) * 1_000
        except (ValueError, OverflowError, OSError):
            return count(value)
    return count(value)


def plain(value: Any, depth: int = 0) -> Any:
    """A copy in lists, dicts, texts and numbers only; NaN and infinity become ``None``."""
    if isinstance(value, str):
        # A copy in `str` itself (an enumeration's member is one too), with lone surrogates escaped.
        return str.__str__(value) if value.isascii() else value.encode("utf-8", "backslashreplace").decode()
    if value is None or isinstance(value, int):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, bytes | bytearray):
        return bytes(value).decode("utf-8", "replace")
    if depth >= _DEPTH:
        return None
    if isinstance(value, Mapping):
        return {plain(key) if isinstance(key, str) else str(key): plain(item, depth + 1) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item, depth + 1) for item in value]
    return None
