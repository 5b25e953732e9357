"""Durations and points in time, as they are typed in a filter."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from fractions import Fraction

from tracekeeper.store.filter.nodes import UNITS

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
LARGEST = (1 << 63) - 1
"""Nanoseconds are stored as 64-bit integers: times until the year 2262."""

_part = re.compile(r"([0-9]+(?:\.[0-9]+)?)([a-zµμ]+)")  # micro sign and Greek mu look alike
_whole = re.compile(r"(?:[0-9]+(?:\.[0-9]+)?[a-zµμ]+)+")
_iso = re.compile(
    r"([0-9]{4})-([0-9]{2})-([0-9]{2})"
    r"(?:[T ]([0-9]{2}):([0-9]{2})(?::([0-9]{2})(?:[.,]([0-9]{1,9}))?)?)?"
    r" ?(Z|[+-][0-9]{2}:?[0-9]{2})?",
    re.IGNORECASE,
)


def looks_like_duration(word: str) -> bool:
    """Whether a word is numbers with letters behind, such as ``2s``, ``1h30m`` (or ``2parsec``)."""
    return _whole.fullmatch(word.lower()) is not None


def parse_duration(word: str) -> int:
    """Nanoseconds of ``500ms``, ``2s``, ``1.5h``, ``1h30m``.

    Raises
    ------
    ValueError
        For an unknown unit (the message names it) or more time than 64 bits of nanoseconds hold.
    """
    total = 0
    for amount, unit in _part.findall(word.lower().replace("μ", "µ")):
        if unit not in UNITS:
            known = ", ".join(unit for unit in UNITS if unit != "µs")
            raise ValueError(f"unknown unit of time {unit!r}; known are {known}")
        # Exact fractions: a float would make 100000000.00000001 ns of some 0.1s.
        total += LARGEST + 1 if len(amount) > 40 else int(Fraction(amount) * UNITS[unit])
        if total > LARGEST:
            raise ValueError("this duration is too long")
    return total


def parse_time(text: str) -> int:
    """Nanoseconds since the epoch of an ISO 8601 date or time; UTC unless it names a zone.

    Raises
    ------
    ValueError
        When it is not one, or lies outside what can be stored.
    """
    match = _iso.fullmatch(text.strip())
    if match is None:
        raise ValueError("expected a time such as 2026-11-01, 2026-11-01T14:30Z or -2h")
    year, month, day, hour, minute, second, fraction, zone = match.groups()
    try:
        moment = datetime(int(year), int(month), int(day), int(hour or 0), int(minute or 0), int(second or 0), 0, UTC)
    except ValueError as error:
        raise ValueError(f"there is no such time: {error}") from None
    since = moment - EPOCH
    nanoseconds = (since.days * 86_400 + since.seconds) * UNITS["s"] + int((fraction or "").ljust(9, "0"))
    nanoseconds -= _offset(zone)
    if not -LARGEST <= nanoseconds <= LARGEST:
        raise ValueError("only times from 1677 to 2262 can be compared")
    return nanoseconds


def show_time(nanoseconds: int) -> str:
    """A time as ISO 8601 in UTC, to the nanosecond where it has any."""
    seconds, rest = divmod(nanoseconds, UNITS["s"])
    moment = (EPOCH + timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%S")
    return f"{moment}{f'.{rest:09d}'.rstrip('0') if rest else ''}Z"


def _offset(zone: str | None) -> int:
    if zone is None or zone in "Zz":
        return 0
    hours, minutes = int(zone[1:3]), int(zone[-2:])
    if hours > 23 or minutes > 59:
        raise ValueError(f"there is no such time zone: {zone}")
    offset = (hours * 3600 + minutes * 60) * UNITS["s"]
    return -offset if zone[0] == "-" else offset
