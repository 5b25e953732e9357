"""Numbers, times and amounts as people read them. Nothing is ever blank: what is missing is said with a word."""

from __future__ import annotations

import math
import time
from datetime import UTC, datetime

NONE = "none"

_MINUTE, _HOUR, _DAY = 60, 3600, 86_400


def format_number(value: float | None, digits: int = 2) -> str:
    """A number: whole ones with separators, others with so many digits behind the point, small ones with what matters.

    Example
    -------
    >>> format_number(0.8333), format_number(12345), format_number(0.00042), format_number(True), format_number(None)
    ('0.83', '12,345', '0.00042', 'true', 'none')
    """
    if value is None:
        return NONE
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return f"{value:,}"
    if not math.isfinite(value):
        return "not a number" if math.isnan(value) else "infinity" if value > 0 else "-infinity"
    size = abs(value)
    if size >= 1e15:
        return f"{value:.{digits}e}"
    if size != 0 and size < 10**-digits:
        return f"{value:.2g}"
    text = f"{value:,.{digits}f}"
    return text.removeprefix("-") if float(text.replace(",", "")) == 0 else text


def format_duration(seconds: float | None) -> str:
    """A length of time in its two largest units, written as a filter takes it.

    Example
    -------
    >>> [format_duration(s) for s in (0.00042, 0.34, 2.14, 65, 7380, 187200)]
    ['420us', '340ms', '2.1s', '1m5s', '2h3m', '2d4h']
    """
    if seconds is None:
        return NONE
    if not math.isfinite(seconds):
        return format_number(float(seconds))
    if seconds < 0:
        return f"-{format_duration(-seconds)}"
    if seconds == 0:
        return "0s"
    # The bounds are where rounding would print the next unit's 1 as 1000 or 60.
    if seconds < 0.0009995:
        return f"{seconds * 1e6:.0f}us" if seconds >= 0.0000005 else "<1us"
    if seconds < 0.00995:
        return f"{seconds * 1e3:.1f}ms"
    if seconds < 0.9995:
        return f"{seconds * 1e3:.0f}ms"
    if seconds < 59.95:
        return f"{seconds:.1f}s"
    whole = round(seconds)
    if whole < _HOUR:
        return _two(whole, _MINUTE, "m", 1, "s")
    if whole < _DAY:
        return _two(whole, _HOUR, "h", _MINUTE, "m")
    return _two(whole, _DAY, "d", _HOUR, "h")


def format_time(at: float | None, *, now: float | None = None) -> str:
    """A point in time, relative to now when it is near, else its date.

    Parameters
    ----------
    at, now:
        Unix time in seconds; ``now`` defaults to the present.

    Example
    -------
    >>> format_time(1000, now=1000.4), format_time(1000, now=1075), format_time(0, now=1e9), format_time(60, now=0)
    ('just now', '1m ago', '1970-01-01', 'in 1m')
    """
    if at is None:
        return NONE
    if not math.isfinite(at):
        return format_number(float(at))
    past = (time.time() if now is None else now) - at
    size = abs(past)
    if size < 1:
        return "just now"
    if size >= 30 * _DAY:
        try:
            return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d")
        except (OverflowError, ValueError, OSError):  # beyond the calendar
            return f"{format_number(at)} seconds after 1970"
    for unit, name in ((_DAY, "d"), (_HOUR, "h"), (_MINUTE, "m"), (1, "s")):
        if size >= unit:
            amount = f"{int(size // unit)}{name}"
            break
    return f"{amount} ago" if past > 0 else f"in {amount}"


def format_cost(dollars: float | None) -> str:
    """An amount of money in US dollars.

    Example
    -------
    >>> format_cost(1.5), format_cost(0.00042), format_cost(None)
    ('$1.50', '$0.00042', 'none')
    """
    if dollars is None:
        return NONE
    amount = format_number(float(dollars))
    return f"-${amount[1:]}" if amount.startswith("-") else f"${amount}"


def plural(n: int, noun: str, nouns: str | None = None) -> str:
    """A count with its noun.

    Example
    -------
    >>> plural(1, "record"), plural(1200, "record"), plural(0, "query", "queries")
    ('1 record', '1,200 records', '0 queries')
    """
    return f"{n:,} {noun if n == 1 else nouns or f'{noun}s'}"


def _two(whole: int, large: int, large_name: str, small: int, small_name: str) -> str:
    first, rest = divmod(whole, large)
    second = rest // small
    return f"{first}{large_name}{f'{second}{small_name}' if second else ''}"
