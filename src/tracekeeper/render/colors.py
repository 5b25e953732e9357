"""Colours of statuses, where there is somebody to see them."""

from __future__ import annotations

import os
import re
import sys
from typing import IO

_GREEN, _RED, _YELLOW, _BLUE, _DIM, _BOLD = "32", "31", "33", "34", "2", "1"

_STATUSES = {
    "ok": _GREEN,
    "scored": _GREEN,
    "error": _RED,
    "failed": _RED,
    "interrupted": _RED,
    "timed out": _YELLOW,
    "timed_out": _YELLOW,
    "abandoned": _YELLOW,
    "truncated": _YELLOW,
    "cancelled": _YELLOW,
    "running": _BLUE,
    "pending": _BLUE,
    "skipped": _DIM,
    "none": _DIM,
    "empty": _DIM,
}
STATUSES = frozenset(_STATUSES)
"""Words that are coloured, as a cell of their own or before a colon or a bracket."""

_beginning = re.compile(rf"({'|'.join(sorted(_STATUSES, key=len, reverse=True))})(?=$|:| \(|…)")


def should_color(stream: IO[str] | None = None) -> bool:
    """Whether output to a stream (default: standard output) is coloured: on a terminal, unless the user says no.

    Source: https://no-color.org (``NO_COLOR`` set to anything but the empty text); ``TERM=dumb``.
    """
    if os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb":
        return False
    stream = sys.stdout if stream is None else stream
    try:
        return stream is not None and stream.isatty()
    except (AttributeError, ValueError):  # a replaced stream without isatty, or one that is closed
        return False


def color_status(text: str) -> str:
    """A padded cell with the status that it begins with coloured; other cells stay as they are."""
    start = len(text) - len(text.lstrip())
    match = _beginning.match(text.rstrip(), start)
    if match is None:
        return text
    return f"{text[:start]}\x1b[{_STATUSES[match.group(1)]}m{match.group(1)}\x1b[0m{text[match.end() :]}"


def bold(text: str) -> str:
    """A heading."""
    return f"\x1b[{_BOLD}m{text}\x1b[0m"


def dim(text: str) -> str:
    """Something that is there but not looked at first."""
    return f"\x1b[{_DIM}m{text}\x1b[0m"
